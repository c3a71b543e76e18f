/* Spoken commands from a stream of samples: C99, no allocation, nothing but the C library.
 *
 *     static sg_state state;
 *     sg_init(&state);
 *     while (n > 0) {
 *         sg_event event;
 *         size_t used = sg_push(&state, samples, n, &event);
 *         if (event.word >= 0) printf("%s\n", sg_words[event.word]);
 *         samples += used, n -= used;
 *     }
 *
 * The same samples give the same events in any chunking. Everything that a stream keeps is in its
 * `sg_state`, of SG_STATE_BYTES; the model itself is constant and can stay in flash.
 *
 * Weights are 8-bit integers. With SG_FLOAT defined, for every file alike, they are floats.
 */
#ifndef SPEECHGRU_H
#define SPEECHGRU_H

#include <stddef.h>
#include <stdint.h>

#include "sg_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef SG_FLOAT
typedef float sg_weight;
typedef float sg_activation;
#define SG_PADDING 1
#define SG_TILE 32
#else
typedef int8_t sg_weight;
typedef int16_t sg_activation;
#define SG_PADDING 4
#define SG_TILE 1
#endif
/* Rows of weights are filled up to a multiple of SG_PADDING, and outputs to one of SG_TILE. */

/* A recognized word. Times are samples since the start of the stream. */
typedef struct {
    int word;          /* index into sg_words; -1: no event */
    float score;       /* its smoothed posterior */
    uint64_t start;    /* where the word lies, as far as the posteriors show */
    uint64_t end;
    uint64_t decided;  /* the end of the step that settled it */
} sg_event;

/* What the detector keeps. Posteriors are integers in units of 1 / SG_UNIT: sums are exact. */
typedef struct {
    uint32_t past[SG_SMOOTHING_STEPS][SG_WORDS];
    uint32_t sums[SG_WORDS];
    uint32_t past_silence[SG_SILENCE_STEPS];
    uint32_t silence_sum;
    uint32_t past_unknown[SG_UNKNOWN_STEPS];
    uint32_t unknown_sum;
    uint32_t since_pause; /* steps */
    /* Steps in a row, up to the last one, in which a word's posterior was above the onset and above
     * its threshold, and in which its smoothed posterior was above its threshold. */
    uint32_t above_onset[SG_WORDS];
    uint32_t above_threshold[SG_WORDS];
    uint32_t sustained[SG_WORDS];
    uint32_t refractory;  /* steps until another event is allowed */
    uint16_t place;       /* in past */
    uint16_t place_silence;
    uint16_t place_unknown;
    int held;             /* word that has to fall below its release first; -1: none */
} sg_detector;

/* What decides when the recurrent state is reset. */
typedef struct {
    float energy;
    float levels_db[SG_LEVELS];
    uint32_t levels;
    uint32_t quiet;
    uint16_t steps;
    uint16_t had_event;
} sg_resets;

/* A stream. */
typedef struct {
    int16_t samples[SG_WINDOW_SAMPLES + SG_HOP_SAMPLES];
    uint32_t filled;
    uint64_t steps;
    /* The last frames of each convolution's input, and their scales. */
    sg_activation frames[SG_FRAMES_SIZE + SG_PADDING];
    float frame_scales[SG_CONVS * SG_KERNEL + 1];
    float hidden[SG_LAYERS][SG_HIDDEN];
    float log_posteriors[SG_LABELS];
    sg_detector detector;
    sg_resets resets;
    /* Nothing below is kept from step to step. */
    float features[SG_FRAMES_PER_STEP * SG_FEATURES];
    union {
        float spectrum[SG_FFT_SAMPLES];
        struct {
            float x[SG_HIDDEN + SG_TILE];
            float y[SG_WIDEST + SG_TILE];
            sg_activation q[SG_WIDEST + SG_PADDING];
            float u[3 * SG_HIDDEN + SG_TILE];
        } layer;
    } work;
} sg_state;

#define SG_STATE_BYTES sizeof(sg_state)

/* The words that can be events, and all labels in the order of the log-posteriors. */
extern const char *const sg_words[SG_WORDS];
extern const char *const sg_labels[SG_LABELS];

/* Start a new stream. */
void sg_init(sg_state *state);

/* Process 16-bit mono samples at SG_SAMPLE_RATE, up to the next event or the last sample.
 *
 * Returns how many of the n samples were taken; push the rest again. `event->word` is -1 if there
 * was no event. At most SG_STEP_SAMPLES at a time, a call takes one step of the network at most. */
size_t sg_push(sg_state *state, const int16_t *samples, size_t n, sg_event *event);

/* The log-posteriors of the last step, in the order of sg_labels. */
const float *sg_log_posteriors(const sg_state *state);

#ifdef __cplusplus
}
#endif
#endif
