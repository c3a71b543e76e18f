/* Where the time goes: products of weights and activations.
 *
 * Rows of weights are filled up with zeros to a multiple of SG_PADDING, and may read so many
 * activations beyond the last one. With 8-bit weights, activations are 16-bit integers with one
 * scale for each vector, chosen so that the largest becomes SG_ACTIVATION_MAX: sums then fit 32
 * bits whatever the activations are. */
#ifndef SG_KERNELS_H
#define SG_KERNELS_H

#include <string.h>

#include "speechgru.h"

#ifdef SG_FLOAT

/* The scale of a sum: that of its vector, and with 8-bit weights that of its row. */
#define SG_SCALED(scale, row_scales, row) (scale)

/* Nothing to round: the copy has scale 1. */
static inline float sg_quantize(const float *x, int n, float *q)
{
    memcpy(q, x, sizeof *q * (size_t)n);
    return 1.0f;
}

/* The sum of `parts` products of `n` weights each; their activations are `stride` apart, and in each
 * part of one scale. */
static inline float sg_dots(
    const float *w, const float *x, int n, int parts, int stride, const float *scales)
{
    /* Sums of their own, which a compiler can keep in vectors. */
    float sums[8] = {0};
    int part, i, j;

    (void)scales;
    for (part = 0; part < parts; part++, x += stride, w += n) {
        for (i = 0; i < n; i += 8) {
            for (j = 0; j < 8; j++) sums[j] += w[i + j] * x[i + j];
        }
    }
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

static inline float sg_dot(const float *w, const float *x, int n)
{
    return sg_dots(w, x, n, 1, 0, NULL);
}

#else

#define SG_SCALED(scale, row_scales, row) ((scale) * (row_scales)[row])

/* 16-bit integers q and their scale s, so that s q is nearest to x. */
static inline float sg_quantize(const float *x, int n, int16_t *q)
{
    float largest = 0.0f, factor;
    int i;

    for (i = 0; i < n; i++) {
        float size = x[i] < 0.0f ? -x[i] : x[i];
        largest = size > largest ? size : largest;
    }
    if (largest < 1e-30f) {
        memset(q, 0, sizeof *q * (size_t)n);
        return 0.0f;
    }
    factor = SG_ACTIVATION_MAX / largest;
    for (i = 0; i < n; i++) {
        /* Truncation of positive numbers rounds halves up. */
        q[i] = (int16_t)((int32_t)(x[i] * factor + 32768.5f) - 32768);
    }
    return largest / SG_ACTIVATION_MAX;
}

/* Each four weights are in the order 0, 2, 1, 3: what one instruction of an ARM core with DSP
 * extension unpacks are then neighbours. */
#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN)
#include <arm_acle.h>

static inline int32_t sg_dot_four(const int8_t *w, const int16_t *x, int32_t sum)
{
    uint32_t weights;
    int16x2_t first, second;

    memcpy(&weights, w, sizeof weights);
    memcpy(&first, x, sizeof first);
    memcpy(&second, x + 2, sizeof second);
    sum = __smlad(__sxtb16((int8x4_t)weights), first, sum);
    return __smlad(__sxtb16((int8x4_t)(weights >> 8)), second, sum);
}

static inline int32_t sg_dot(const int8_t *w, const int16_t *x, int n)
{
    int32_t sum = 0;

    for (; n >= 8; n -= 8, w += 8, x += 8) {
        sum = sg_dot_four(w, x, sum);
        sum = sg_dot_four(w + 4, x + 4, sum);
    }
    return n > 0 ? sg_dot_four(w, x, sum) : sum;
}

#else

static inline int32_t sg_dot(const int8_t *w, const int16_t *x, int n)
{
    int32_t sum = 0;
    int i;

    for (i = 0; i < n; i += 4) {
        sum += w[i] * x[i] + w[i + 1] * x[i + 2] + w[i + 2] * x[i + 1] + w[i + 3] * x[i + 3];
    }
    return sum;
}

#endif

/* The sum of `parts` products of `n` weights each; their activations are `stride` apart, and in each
 * part of one scale. */
static inline float sg_dots(
    const int8_t *w, const int16_t *x, int n, int parts, int stride, const float *scales)
{
    float sum = 0.0f;
    int part;

    for (part = 0; part < parts; part++, x += stride, w += n) {
        sum += (float)sg_dot(w, x, n) * scales[part];
    }
    return sum;
}

#endif
#endif
