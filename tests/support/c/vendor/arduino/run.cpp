/* Runs a sketch on samples from stdin: words on stdout.
 *
 * As on an nRF52840, the microphone gives 512 bytes at a time, and stops for good if they have not
 * been read when the next are there. With an argument, the loop is late now and then. */
#include <PDM.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char buffer[512];
static int unread;
static void (*callback)(void);

UART Serial;
PDMClass PDM;

size_t Print::println(const char text[])
{
    return (size_t)printf("%s\n", text);
}

void UART::begin(unsigned long) {}

void delay(unsigned long)
{
    exit(4);
}

int PDMClass::begin(int channels, int sampleRate)
{
    return channels == 1 && sampleRate == 16000;
}

int PDMClass::available()
{
    return unread;
}

int PDMClass::read(void *to, size_t size)
{
    int bytes = (int)size < unread ? (int)size : unread;
    memcpy(to, buffer, (size_t)bytes);
    unread -= bytes;
    return bytes;
}

void PDMClass::onReceive(void (*function)(void))
{
    callback = function;
}

int main(int argc, char **)
{
    int blocks = 0;
    size_t bytes;

    setup();
    while ((bytes = fread(buffer, 1, sizeof buffer, stdin)) > 0) {
        if (unread > 0) return 3;
        unread = (int)bytes;
        callback();
        if (argc > 1 && ++blocks % 50 < 5) continue;
        loop();
        loop();
    }
    return 0;
}
