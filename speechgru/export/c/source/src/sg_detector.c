/* Log-posteriors to events, as speechgru's detector does it. */
#include <string.h>

#include "sg_internal.h"
#include "sg_math.h"

void sg_init_detector(sg_detector *detector)
{
    memset(detector, 0, sizeof *detector);
    detector->held = -1;
}

static uint32_t in_units(float log_posterior)
{
    return (uint32_t)(SG_UNIT * sg_exp(log_posterior > 0.0f ? 0.0f : log_posterior));
}

/* Steps in a row; what has lasted for two years need not be counted on. */
static uint32_t counted(uint32_t steps, int goes_on)
{
    return goes_on ? steps + (steps < UINT32_MAX) : 0;
}

static void smooth(sg_detector *detector, const float *log_posteriors)
{
    uint32_t *past = detector->past[detector->place];
    int word;

    for (word = 0; word < SG_WORDS; word++) {
        uint32_t posterior = in_units(log_posteriors[sg_word_columns[word]]);
        uint32_t *sum = &detector->sums[word];
        *sum = *sum + posterior - past[word];
        past[word] = posterior;
        detector->above_onset[word] =
            counted(detector->above_onset[word], posterior >= SG_ONSET_LIMIT);
        detector->above_threshold[word] =
            counted(detector->above_threshold[word], posterior >= sg_step_limits[word]);
        detector->sustained[word] =
            counted(detector->sustained[word], *sum >= sg_sum_limits[word]);
    }
    detector->place = (uint16_t)((detector->place + 1) % SG_SMOOTHING_STEPS);
#if SG_WATCHES_SILENCE
    {
        uint32_t *oldest = &detector->past_silence[detector->place_silence];
        uint32_t silence = in_units(log_posteriors[SG_SILENCE]);
        detector->silence_sum = detector->silence_sum + silence - *oldest;
        *oldest = silence;
        detector->place_silence = (uint16_t)((detector->place_silence + 1) % SG_SILENCE_STEPS);
    }
#endif
#if SG_WATCHES_UNKNOWN
    {
        uint32_t *oldest = &detector->past_unknown[detector->place_unknown];
        uint32_t unknown = in_units(log_posteriors[SG_UNKNOWN]);
        detector->unknown_sum = detector->unknown_sum + unknown - *oldest;
        *oldest = unknown;
        detector->place_unknown = (uint16_t)((detector->place_unknown + 1) % SG_UNKNOWN_STEPS);
#if SG_PAUSE_STEPS > 0
        detector->since_pause =
            counted(detector->since_pause, in_units(log_posteriors[SG_SILENCE]) < SG_PAUSE_LIMIT);
#endif
    }
#endif
}

static int is_silent(const sg_detector *detector)
{
    return SG_WATCHES_SILENCE && detector->silence_sum > SG_SILENCE_LIMIT;
}

static int follows_speech(const sg_detector *detector)
{
#if SG_PAUSE_STEPS > 0
    if (detector->since_pause < SG_PAUSE_STEPS) return 0;
#endif
    return SG_WATCHES_UNKNOWN && detector->unknown_sum > SG_UNKNOWN_LIMIT;
}

int sg_detect(sg_detector *detector, const float *log_posteriors, uint64_t step, sg_event *event)
{
    int word, best = 0, held = detector->held;
    int is_blocked = detector->refractory > 0;
    uint64_t end;

    smooth(detector, log_posteriors);
    if (is_blocked) detector->refractory--;
    for (word = 1; word < SG_WORDS; word++) {
        if (detector->sums[word] > detector->sums[best]) best = word;
    }
    if (held >= 0 && detector->sums[held] < sg_release_limits[held]) {
        detector->held = -1;
        detector->above_onset[held] = 0; /* said twice, it begins anew */
    }
    if (detector->sustained[best] < SG_DURATION_STEPS) return 0;
    if (detector->held == best || is_blocked || is_silent(detector)) return 0;
    detector->held = best;
    if (follows_speech(detector)) return 0;
    detector->refractory = SG_REFRACTORY_STEPS > 0 ? SG_REFRACTORY_STEPS - 1 : 0;
    end = step + 2 - detector->above_threshold[best];
    event->word = best;
    event->score = (float)detector->sums[best] / (SG_UNIT * SG_SMOOTHING_STEPS);
    event->start = (step + 1 - detector->above_onset[best]) * SG_STEP_SAMPLES;
    event->end = (end < step + 1 ? end : step + 1) * SG_STEP_SAMPLES;
    event->decided = (step + 1) * SG_STEP_SAMPLES;
    return 1;
}
