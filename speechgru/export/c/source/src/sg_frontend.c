/* A frame of samples to features: window, Fourier transform, mel bands, logarithm, normalization. */
#include "sg_internal.h"
#include "sg_math.h"

#define HALF (SG_FFT_SAMPLES / 2)
/* The logarithm's floor. */
#define FLOOR 1e-6f

/* The windowed samples as HALF complex numbers (even samples real, odd ones imaginary), in the
 * bit-reversed order that the transform starts from. */
static void load(const int16_t *samples, float *z)
{
    uint32_t reversed = 0, bit;
    int i;

    for (i = 0; i < HALF; i++) {
        int even = 2 * i, odd = 2 * i + 1;
        z[2 * reversed] = even < SG_WINDOW_SAMPLES ? sg_window[even] * (float)samples[even] : 0.0f;
        z[2 * reversed + 1] = odd < SG_WINDOW_SAMPLES ? sg_window[odd] * (float)samples[odd] : 0.0f;
        for (bit = HALF / 2; reversed & bit; bit >>= 1) reversed ^= bit;
        reversed |= bit;
    }
}

/* The first two stages of the transform, which need no multiplication. */
static void transform_fours(float *z)
{
    float *end = z + SG_FFT_SAMPLES;

    for (; z < end; z += 8) {
        float a_re = z[0] + z[2], a_im = z[1] + z[3], b_re = z[0] - z[2], b_im = z[1] - z[3];
        float c_re = z[4] + z[6], c_im = z[5] + z[7], d_re = z[4] - z[6], d_im = z[5] - z[7];
        z[0] = a_re + c_re, z[1] = a_im + c_im;
        z[2] = b_re + d_im, z[3] = b_im - d_re;
        z[4] = a_re - c_re, z[5] = a_im - c_im;
        z[6] = b_re - d_im, z[7] = b_im + d_re;
    }
}

/* The Fourier transform of HALF complex numbers in place, decimated in time. */
static void transform(float *z)
{
    int length, i, k;

    transform_fours(z);
    for (length = 8; length <= HALF; length *= 2) {
        int half = length / 2, stride = SG_FFT_SAMPLES / length;
        for (k = 0; k < half; k++) {
            /* exp(-2 pi i k / length) */
            float w_re = sg_twiddles[2 * k * stride], w_im = sg_twiddles[2 * k * stride + 1];
            for (i = k; i < HALF; i += length) {
                float *a = z + 2 * i, *b = a + 2 * half;
                float re = w_re * b[0] - w_im * b[1], im = w_re * b[1] + w_im * b[0];
                b[0] = a[0] - re, b[1] = a[1] - im;
                a[0] = a[0] + re, a[1] = a[1] + im;
            }
        }
    }
}

static float power(float re, float im)
{
    return re * re + im * im;
}

/* From the transform of even and odd samples as one, the power of bin k of the real transform
 * into z[2 k]:  X_k = E_k + w^k O_k,  X_(HALF - k) = conj(E_k - w^k O_k). */
static void to_power(float *z)
{
    int k;

    z[0] = power(z[0] + z[1], 0.0f);
    for (k = 1; k <= HALF / 2; k++) {
        float *a = z + 2 * k, *b = z + 2 * (HALF - k);
        float even_re = 0.5f * (a[0] + b[0]), even_im = 0.5f * (a[1] - b[1]);
        float odd_re = 0.5f * (a[1] + b[1]), odd_im = 0.5f * (b[0] - a[0]);
        float w_re = sg_twiddles[2 * k], w_im = sg_twiddles[2 * k + 1];
        float re = w_re * odd_re - w_im * odd_im, im = w_re * odd_im + w_im * odd_re;
        a[0] = power(even_re + re, even_im + im);
        b[0] = power(even_re - re, even_im - im);
    }
}

/* In near silence the mean over the bands is so large that it bypasses the product. */
#if SG_CEPSTRA
static void to_cepstra(const float *log_mel, float *features)
{
    float mean = 0.0f;
    int c, m;

    for (m = 0; m < SG_MELS; m++) mean += log_mel[m];
    mean /= SG_MELS;
    for (c = 0; c < SG_CEPSTRA; c++) {
        float sum = 0.0f;
        for (m = 0; m < SG_MELS; m++) sum += (log_mel[m] - mean) * sg_dct[c][m];
        features[c] = sum + mean * sg_dct_sums[c];
    }
}
#endif

void sg_frame(const int16_t *samples, float *spectrum, float *features)
{
#if SG_CEPSTRA
    float log_mel[SG_MELS];
#else
    float *log_mel = features;
#endif
    const float *weights = sg_mel_weights;
    int m, i;

    load(samples, spectrum);
    transform(spectrum);
    to_power(spectrum);
    for (m = 0; m < SG_MELS; m++) {
        const float *bin = spectrum + 2 * sg_bands[m].first;
        float sum = FLOOR;
        for (i = 0; i < sg_bands[m].bins; i++) sum += *weights++ * bin[2 * i];
        log_mel[m] = sg_log(sum);
    }
#if SG_CEPSTRA
    to_cepstra(log_mel, features);
#endif
    for (i = 0; i < SG_FEATURES; i++) {
        features[i] = features[i] * sg_feature_gains[i] + sg_feature_biases[i];
    }
}
