/* Features to log-posteriors: front, recurrent layers, head. */
#include <math.h>
#include <string.h>

#include "sg_internal.h"
#include "sg_kernels.h"
#include "sg_math.h"

/* y = W x + b for x of one scale. */
static void product(const sg_matrix *matrix, const sg_activation *x, float scale, float *y)
{
    const sg_weight *w = matrix->weights;
    int i;

    for (i = 0; i < matrix->outputs; i++, w += matrix->row) {
        float sum = (float)sg_dot(w, x, matrix->row);
        y[i] = sum * SG_SCALED(scale, matrix->scales, i) + matrix->biases[i];
    }
}

#if SG_CONVS
/* One frame of a convolution's output, (bands, channels), from its frames, (frames, bands with two
 * of zeros at either end, channels). */
static void convolve(
    const sg_conv *conv, const sg_activation *frames, const float *scales, float *y)
{
    int size = (conv->bands + SG_BAND_KERNEL - 1) * conv->inputs;
    int band, output;

    for (band = 0; band < conv->output_bands; band++) {
        const sg_activation *x = frames + band * conv->band_stride * conv->inputs;
        const sg_weight *w = conv->weights;
        for (output = 0; output < conv->outputs; output++, w += SG_KERNEL * conv->row) {
            float sum = sg_dots(w, x, conv->row, SG_KERNEL, size, scales);
            sum = sum * SG_SCALED(1.0f, conv->scales, output) + conv->biases[output];
            *y++ = sum > 0.0f ? sum : 0.0f;
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

/* One unit's gate before its nonlinearity, from the input's side or the state's. */
static float gate(const sg_matrix *matrix, int row, const sg_activation *x, float scale)
{
    float sum = (float)sg_dot(matrix->weights + row * matrix->row, x, matrix->row);
    return sum * SG_SCALED(scale, matrix->scales, row);
}

/* A recurrent layer: h' = (1 - z) n + z h  with
 * r = sigmoid(W_r x + U_r h),  z = sigmoid(W_z x + U_z h),  n = tanh(W_n x + r (U_n h)). */
static void recur(
    const sg_gru *gru, const sg_activation *x, float x_scale, sg_activation *q, float *h)
{
    float h_scale = sg_quantize(h, SG_HIDDEN, q);
    int i;

    for (i = 0; i < SG_HIDDEN; i++) {
        const float *biases = gru->input.biases + i;
        float r = gate(&gru->input, i, x, x_scale) + gate(&gru->recurrent, i, q, h_scale);
        float z = gate(&gru->input, i + SG_HIDDEN, x, x_scale)
            + gate(&gru->recurrent, i + SG_HIDDEN, q, h_scale);
        float n = gate(&gru->input, i + 2 * SG_HIDDEN, x, x_scale) + biases[2 * SG_HIDDEN];
        float u = gate(&gru->recurrent, i + 2 * SG_HIDDEN, q, h_scale) + gru->recurrent.biases[i];
        r = sg_sigmoid(r + biases[0]);
        z = sg_sigmoid(z + biases[SG_HIDDEN]);
        n = sg_tanh(n + r * u);
        h[i] = n + z * (h[i] - n);
    }
}

/* Log-posteriors of the labels as if all were equally likely, from the head's outputs: those of
 * unknown words are added to the label's own, and the labels' shares in training are removed. */
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
        float *h = state->hidden[i];
        normalize(i, x, y);
        scale = sg_quantize(y, SG_HIDDEN, q);
        recur(&sg_layers[i], q, scale, state->work.layer.h, h);
        for (j = 0; j < SG_HIDDEN; j++) x[j] = SG_RESIDUAL ? x[j] + h[j] : h[j];
    }
    normalize(SG_LAYERS, x, y);
    scale = sg_quantize(y, SG_HIDDEN, q);
    product(&sg_head, q, scale, y);
    to_log_posteriors(y, state->log_posteriors);
}
