/* Where the time goes: products of weights and activations.
 *
 * `sg_products` gives, for each output, the sum of `parts` products: of a row of weights with
 * `row` activations. The activations of the parts are `stride` apart, and have a scale each. Rows are
 * filled up with zeros to a multiple of SG_PADDING, and may read so many activations beyond the last
 * one. */
#ifndef SG_KERNELS_H
#define SG_KERNELS_H

#include <string.h>

#include "sg_internal.h"

#ifdef SG_FLOAT

/* Nothing to round: the copy has scale 1. */
static inline float sg_quantize(const float *x, int n, float *q)
{
    memcpy(q, x, sizeof *q * (size_t)n);
    return 1.0f;
}

/* Weights lie in tiles of SG_TILE outputs, filled up with zeros. The weights that a tile has for one
 * activation are neighbours: compilers keep the tile's sums in vectors. */
static inline void sg_products(
    const sg_matrix *matrix, const float *restrict x, int parts, int stride, const float *scales,
    float *restrict y)
{
    const float *restrict w = matrix->weights;
    int first, part, i, j;

    (void)scales;
    for (first = 0; first < matrix->outputs; first += SG_TILE) {
        float sums[SG_TILE] = {0};
        for (part = 0; part < parts; part++) {
            for (i = 0; i < matrix->row; i++, w += SG_TILE) {
                float activation = x[part * stride + i];
                for (j = 0; j < SG_TILE; j++) sums[j] += w[j] * activation;
            }
        }
        for (j = 0; j < SG_TILE; j++) y[first + j] = sums[j];
    }
}

#else

/* With 8-bit weights, activations are 16-bit integers with one scale for each vector, chosen so that
 * the largest becomes SG_ACTIVATION_MAX: sums then fit 32 bits whatever the activations are. */

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

    for (i = 0; i < n; i++) sum += w[i] * x[i];
    return sum;
}

#endif

#ifdef __SSE2__
#include <emmintrin.h>

/* Products of eight weights, or of four and zeros, added up in pairs. */
static inline __m128i sg_pairs(__m128i w, __m128i x)
{
    return _mm_madd_epi16(_mm_srai_epi16(_mm_unpacklo_epi8(w, w), 8), x);
}

/* The products of four rows, `stride` apart, with the same activations. */
static inline __m128 sg_four_dots(const int8_t *w, int stride, const int16_t *x, int n)
{
    __m128i sums[4], low, high;
    int i, row;

    for (row = 0; row < 4; row++) sums[row] = _mm_setzero_si128();
    for (i = 0; i + 8 <= n; i += 8) {
        __m128i activations = _mm_loadu_si128((const __m128i *)(const void *)(x + i));
        for (row = 0; row < 4; row++) {
            __m128i weights = _mm_loadl_epi64((const __m128i *)(const void *)(w + row * stride + i));
            sums[row] = _mm_add_epi32(sums[row], sg_pairs(weights, activations));
        }
    }
    if (i < n) {
        __m128i activations = _mm_loadl_epi64((const __m128i *)(const void *)(x + i));
        for (row = 0; row < 4; row++) {
            int32_t four;
            memcpy(&four, w + row * stride + i, sizeof four);
            sums[row] = _mm_add_epi32(sums[row], sg_pairs(_mm_cvtsi32_si128(four), activations));
        }
    }
    low = _mm_add_epi32(
        _mm_unpacklo_epi32(sums[0], sums[1]), _mm_unpackhi_epi32(sums[0], sums[1]));
    high = _mm_add_epi32(
        _mm_unpacklo_epi32(sums[2], sums[3]), _mm_unpackhi_epi32(sums[2], sums[3]));
    return _mm_cvtepi32_ps(
        _mm_add_epi32(_mm_unpacklo_epi64(low, high), _mm_unpackhi_epi64(low, high)));
}
#endif

static inline void sg_products(
    const sg_matrix *matrix, const int16_t *x, int parts, int stride, const float *scales, float *y)
{
    const int8_t *w = matrix->weights;
    int output = 0, row = matrix->row, part;

#ifdef __SSE2__
    for (; output + 4 <= matrix->outputs; output += 4, w += 4 * parts * row) {
        __m128 sum = _mm_setzero_ps();
        for (part = 0; part < parts; part++) {
            __m128 dots = sg_four_dots(w + part * row, parts * row, x + part * stride, row);
            sum = _mm_add_ps(sum, _mm_mul_ps(dots, _mm_set1_ps(scales[part])));
        }
        _mm_storeu_ps(y + output, _mm_mul_ps(sum, _mm_loadu_ps(matrix->scales + output)));
    }
#endif
    for (; output < matrix->outputs; output++) {
        float sum = 0.0f;
        for (part = 0; part < parts; part++, w += row) {
            sum += (float)sg_dot(w, x + part * stride, row) * scales[part];
        }
        y[output] = sum * matrix->scales[output];
    }
}

#endif
#endif
