/* Features to log-posteriors: front, recurrent layers, head. */
#include <math.h>
#include <string.h>

#include "sg_internal.h"
#include "sg_kernels.h"
#include "sg_math.h"

/* y = W x + b for x of one scale. */
static void product(const sg_matrix *matrix, const sg_activation *x, float scale, float *y)
{
    int i;

    sg_products(matrix, x, 1, 0, &scale, y);
    for (i = 0; i < matrix->outputs; i++) y[i] += matrix->biases[i];
}

#if SG_CONVS
/* One frame of a convolution's output, (bands, channels), from its frames, (frames, bands with two
 * of zeros at either end, channels). */
static void convolve(
    const sg_conv *conv, const sg_activation *frames, const float *scales, float *y)
{
    const sg_matrix *matrix = &conv->matrix;
    int size = (conv->bands + SG_BAND_KERNEL - 1) * conv->inputs;
    int band, i;

    for (band = 0; band < conv->output_bands; band++, y += matrix->outputs) {
        const sg_activation *x = frames + band * conv->band_stride * conv->inputs;
        sg_products(matrix, x, SG_KERNEL, size, scales, y);
        for (i = 0; i < matrix->outputs; i++) {
            float sum = y[i] + matrix->biases[i];
            y[i] = sum > 0.0f ? sum : 0.0f;
        }
    }
}

/* Causal convolutions; the result lies in work.layer.y. */
static void front(sg_state *state)
{
    sg_activation *frames = state->frames;
    float *scales = state->frame_scales;
    const float *x = state->features;
    int i, frame;

    for (i = 0; i < SG_CONVS; i++) {
        const sg_conv *conv = &sg_convs[i];
        int size = (conv->bands + SG_BAND_KERNEL - 1) * conv->inputs;
        int kept = SG_KERNEL - conv->stride, values = conv->bands * conv->inputs;
        memmove(frames, frames + conv->stride * size, sizeof *frames * (size_t)(kept * size));
        memmove(scales, scales + conv->stride, sizeof *scales * (size_t)kept);
        for (frame = 0; frame < conv->stride; frame++) {
            sg_activation *newest = frames + (kept + frame) * size;
            newest += SG_BAND_KERNEL / 2 * conv->inputs;
            scales[kept + frame] = sg_quantize(x + frame * values, values, newest);
        }
        convolve(conv, frames, scales, state->work.layer.y);
        x = state->work.layer.y;
        frames += SG_KERNEL * size;
        scales += SG_KERNEL;
    }
}
#else
/* Joins the frames of a step; the result lies in work.layer.y. */
static void front(sg_state *state)
{
    memcpy(state->work.layer.y, state->features, sizeof state->features);
}
#endif

/* Layer normalization before recurrent layer `i`, or before the head. */
static void normalize(int i, const float *x, float *y)
{
#if SG_LAYER_NORM
    const sg_norm *norm = &sg_norms[i];
    float mean = 0.0f, variance = 0.0f, gain;
    int j;

    for (j = 0; j < SG_HIDDEN; j++) mean += x[j];
    mean /= SG_HIDDEN;
    for (j = 0; j < SG_HIDDEN; j++) variance += (x[j] - mean) * (x[j] - mean);
    gain = 1.0f / sqrtf(variance / SG_HIDDEN + 1e-5f);
    for (j = 0; j < SG_HIDDEN; j++) y[j] = (x[j] - mean) * gain * norm->gains[j] + norm->biases[j];
#else
    (void)i;
    memcpy(y, x, sizeof *y * SG_HIDDEN);
#endif
}

/* The new state from the products with input and state, each with r, z and n of all units. */
static void gates(
    const sg_gru *gru, const float *restrict x, const float *restrict u, float *restrict h)
{
    const float *restrict biases = gru->input.biases;
    const float *restrict state_biases = gru->recurrent.biases;
    int i;

    for (i = 0; i < SG_HIDDEN; i++) {
        int j = i + SG_HIDDEN, k = j + SG_HIDDEN;
        float r = sg_sigmoid(x[i] + u[i] + biases[i]);
        float z = sg_sigmoid(x[j] + u[j] + biases[j]);
        float n = sg_tanh(x[k] + biases[k] + r * (u[k] + state_biases[i]));
        h[i] = n + z * (h[i] - n);
    }
}

/* A recurrent layer: h' = (1 - z) n + z h  with
 * r = sigmoid(W_r x + U_r h),  z = sigmoid(W_z x + U_z h),  n = tanh(W_n x + r (U_n h)). */
static void recur(sg_state *state, int layer, const float *x)
{
    const sg_gru *gru = &sg_layers[layer];
    float *h = state->hidden[layer];
    sg_activation *q = state->work.layer.q;
    float scale = sg_quantize(x, SG_HIDDEN, q);

    sg_products(&gru->input, q, 1, 0, &scale, state->work.layer.y);
    scale = sg_quantize(h, SG_HIDDEN, q);
    sg_products(&gru->recurrent, q, 1, 0, &scale, state->work.layer.u);
    gates(gru, state->work.layer.y, state->work.layer.u, h);
}

/* Log-posteriors of the labels for the model's prior, from the head's outputs: those of unknown
 * words are added to the label's own, and the labels' shares in training are removed. */
static void to_log_posteriors(const float *outputs, float *log_posteriors)
{
    float highest = outputs[0], total = 0.0f;
    int i;

    for (i = 1; i < SG_OUTPUTS; i++) highest = outputs[i] > highest ? outputs[i] : highest;
    for (i = 0; i < SG_LABELS; i++) log_posteriors[i] = outputs[i] - highest;
#if SG_OUTPUTS > SG_LABELS
    total = sg_exp(log_posteriors[SG_UNKNOWN]);
    for (i = SG_LABELS; i < SG_OUTPUTS; i++) total += sg_exp(outputs[i] - highest);
    /* The highest output may be so much higher that nothing is left of the unknown words. */
    log_posteriors[SG_UNKNOWN] = sg_log(total > 1e-37f ? total : 1e-37f);
    total = 0.0f;
#endif
    highest = log_posteriors[0] - sg_log_prior[0];
    for (i = 0; i < SG_LABELS; i++) {
        log_posteriors[i] -= sg_log_prior[i];
        highest = log_posteriors[i] > highest ? log_posteriors[i] : highest;
    }
    for (i = 0; i < SG_LABELS; i++) total += sg_exp(log_posteriors[i] - highest);
    highest += sg_log(total);
    for (i = 0; i < SG_LABELS; i++) log_posteriors[i] -= highest;
}

void sg_network(sg_state *state)
{
    float *x = state->work.layer.x, *y = state->work.layer.y, scale;
    sg_activation *q = state->work.layer.q;
    int i, j;

    front(state);
    scale = sg_quantize(y, SG_FRONT_SIZE, q);
    product(&sg_project, q, scale, x);
    for (i = 0; i < SG_LAYERS; i++) {
        const float *h = state->hidden[i];
        normalize(i, x, y);
        recur(state, i, y);
        for (j = 0; j < SG_HIDDEN; j++) x[j] = SG_RESIDUAL ? x[j] + h[j] : h[j];
    }
    normalize(SG_LAYERS, x, y);
    scale = sg_quantize(y, SG_HIDDEN, q);
    product(&sg_head, q, scale, y);
    to_log_posteriors(y, state->log_posteriors);
}
