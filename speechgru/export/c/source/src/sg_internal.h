/* The model's tables, and what the parts have of each other. */
#ifndef SG_INTERNAL_H
#define SG_INTERNAL_H

#include "speechgru.h"

/* Posteriors are summed in units of 1 / SG_UNIT: 1,000 of them fit 32 bits. */
#define SG_UNIT 4194304.0f

/* Bands that a convolution spans. */
#define SG_BAND_KERNEL 5

/* Four neighbouring 8-bit weights. Cores with the DSP extension of ARM unpack the first and third by
 * one instruction, and the other two by another. */
#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN)
#define SG_FOUR(a, b, c, d) a, c, b, d
#else
#define SG_FOUR(a, b, c, d) a, b, c, d
#endif

/* A mel band: `bins` weights from bin `first` on. */
typedef struct {
    uint16_t first, bins;
} sg_band;

/* Rows of weights, one or more for each output; sg_kernels.h says how they lie. */
typedef struct {
    uint16_t outputs, row;
    const sg_weight *weights;
    const float *scales, *biases;
} sg_matrix;

/* A convolution over SG_KERNEL frames and SG_BAND_KERNEL bands. For each output and frame it has a
 * row of weights: the bands that it spans, each with all channels. */
typedef struct {
    uint16_t inputs, bands, output_bands, stride, band_stride;
    sg_matrix matrix;
} sg_conv;

/* A GRU layer: gates r, z and n, SG_HIDDEN rows each. The biases of r and z are sums of both
 * products' biases, and all are in `input`; `recurrent` has n's alone. */
typedef struct {
    sg_matrix input, recurrent;
} sg_gru;

/* A layer normalization. */
typedef struct {
    const float *gains, *biases;
} sg_norm;

extern const float sg_window[SG_WINDOW_SAMPLES];
extern const float sg_twiddles[SG_FFT_SAMPLES];
extern const sg_band sg_bands[SG_MELS];
extern const float sg_mel_weights[];
extern const float sg_feature_gains[SG_FEATURES];
extern const float sg_feature_biases[SG_FEATURES];
#if SG_CEPSTRA
extern const float sg_dct[SG_CEPSTRA][SG_MELS];
extern const float sg_dct_sums[SG_CEPSTRA];
#endif
#if SG_CONVS
extern const sg_conv sg_convs[SG_CONVS];
#endif
extern const sg_matrix sg_project;
extern const sg_gru sg_layers[SG_LAYERS];
#if SG_LAYER_NORM
extern const sg_norm sg_norms[SG_LAYERS + 1];
#endif
extern const sg_matrix sg_head;
extern const float sg_log_prior[SG_LABELS];

extern const uint16_t sg_word_columns[SG_WORDS];
extern const uint32_t sg_step_limits[SG_WORDS];
extern const uint32_t sg_sum_limits[SG_WORDS];
extern const uint32_t sg_release_limits[SG_WORDS];

/* The features of one frame of SG_WINDOW_SAMPLES samples; `spectrum` is a workspace. */
void sg_frame(const int16_t *samples, float *spectrum, float *features);

/* One step of the network, from state->features to state->log_posteriors. */
void sg_network(sg_state *state);

void sg_init_detector(sg_detector *detector);
/* One step of the detector; 1 if there is an event. `step` counts from 0. */
int sg_detect(sg_detector *detector, const float *log_posteriors, uint64_t step, sg_event *event);

/* Take one step's samples; 1 if the recurrent state has to be reset now. */
int sg_update_resets(sg_resets *resets, const int16_t *samples, int had_event);

#endif
