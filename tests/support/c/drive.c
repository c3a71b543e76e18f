/* Runs a file of samples through a model: events on stdout, log-posteriors of each step to a file.
 *
 *     drive SAMPLES.pcm LOG_POSTERIORS.f32 CHUNK SEED
 *
 * Chunks have 1 to CHUNK samples at random; with a seed of 0 all have CHUNK samples. */
#include <stdio.h>
#include <stdlib.h>

#include "speechgru.h"

#ifdef MEASURE
#include "measure.h"
#else
static void measure_begin(void) {}
static void measure_end(void) {}
static void measure_report(void) {}
#endif

static sg_state state;
static int16_t samples[65536];

static size_t chunk_size(size_t most, uint32_t *random)
{
    if (*random == 0) return most;
    *random = *random * 1664525u + 1013904223u;
    return 1 + (*random >> 8) % most;
}

static void push(const int16_t *next, size_t n, FILE *out)
{
    while (n > 0) {
        sg_event event;
        uint64_t before = state.steps;
        size_t used;
        measure_begin();
        used = sg_push(&state, next, n, &event);
        if (state.steps != before) measure_end();
        if (state.steps == before + 1) {
            fwrite(sg_log_posteriors(&state), sizeof(float), SG_LABELS, out);
        }
        if (event.word >= 0) {
            printf("%s %lu %lu %lu %.6f\n", sg_words[event.word], (unsigned long)event.start,
                   (unsigned long)event.end, (unsigned long)event.decided, (double)event.score);
        }
        next += used;
        n -= used;
    }
}

int main(int argc, char **argv)
{
    FILE *in, *out;
    size_t most, n;
    uint32_t random;

    if (argc < 5) return 2;
    argv += argc - 5;  /* some start-up code puts a name of its own before the command line */
    in = fopen(argv[1], "rb");
    out = fopen(argv[2], "wb");
    most = (size_t)strtoul(argv[3], NULL, 10);
    random = (uint32_t)strtoul(argv[4], NULL, 10);
    if (in == NULL || out == NULL || most < 1 || most > 65536) return 2;
    sg_init(&state);
    while ((n = fread(samples, 2, chunk_size(most, &random), in)) > 0) push(samples, n, out);
    measure_report();
    fclose(in);
    return fclose(out) != 0;
}
