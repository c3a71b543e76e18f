// Words from the microphone of an Arduino Nano 33 BLE Sense, or another board with the PDM library.
// Install: copy the folder that `speechgru export --c` wrote to Arduino/libraries/speechgru_model.
#include <PDM.h>
#include <speechgru.h>

static sg_state state;
// Filled by the microphone's interrupt while the loop takes the other half.
static int16_t blocks[2][512];
static volatile size_t blockSamples[2];
static volatile int filling = 0;

static void onSamples() {
  static int16_t lost[512];
  const int block = filling;
  const bool late = blockSamples[block] != 0;
  // If the loop is late, samples are lost; left unread, they would stop the microphone.
  const int bytes = PDM.read(late ? lost : blocks[block], min(PDM.available(), (int)sizeof lost));
  if (late) return;
  blockSamples[block] = bytes / sizeof(int16_t);
  filling = 1 - block;
}

void setup() {
  Serial.begin(115200);
  sg_init(&state);
  PDM.onReceive(onSamples);
  if (!PDM.begin(1, SG_SAMPLE_RATE)) {
    Serial.println("the microphone does not start");
    while (true) delay(1000);
  }
}

void loop() {
  static int next = 0;
  size_t n = blockSamples[next];
  if (n == 0) return;
  const int16_t *samples = blocks[next];
  while (n > 0) {
    sg_event event;
    const size_t used = sg_push(&state, samples, n, &event);
    if (event.word >= 0) Serial.println(sg_words[event.word]);
    samples += used;
    n -= used;
  }
  blockSamples[next] = 0;
  next = 1 - next;
}
