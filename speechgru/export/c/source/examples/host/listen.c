/* Words in raw samples on stdin (16 bits, little-endian, mono, SG_SAMPLE_RATE), a line of JSON each:
 *
 *     ffmpeg -v quiet -i recording.flac -f s16le -ac 1 -ar SG_SAMPLE_RATE - | build/listen
 */
#include <stdio.h>

#include "speechgru.h"

static double seconds(uint64_t samples)
{
    return (double)samples / SG_SAMPLE_RATE;
}

static void print_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        putchar(*text);
    }
    putchar('"');
}

static void print(const sg_event *event)
{
    printf(
        "{\"t\": %.3f, \"start\": %.3f, \"end\": %.3f, \"word\": ",
        seconds(event->decided), seconds(event->start), seconds(event->end));
    print_string(sg_words[event->word]);
    printf(", \"score\": %.4f}\n", (double)event->score);
    fflush(stdout);
}

int main(void)
{
    static sg_state state;
    unsigned char bytes[2 * SG_STEP_SAMPLES];
    int16_t samples[SG_STEP_SAMPLES];
    size_t n, i;

    sg_init(&state);
    while ((n = fread(bytes, 2, SG_STEP_SAMPLES, stdin)) > 0) {
        const int16_t *next = samples;
        for (i = 0; i < n; i++) {
            samples[i] = (int16_t)(uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
        }
        while (n > 0) {
            sg_event event;
            size_t used = sg_push(&state, next, n, &event);
            if (event.word >= 0) print(&event);
            next += used;
            n -= used;
        }
    }
    return ferror(stdin) || ferror(stdout) ? 1 : 0;
}
