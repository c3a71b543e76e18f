/* A stream: samples to steps, steps to events, and the state between them. */
#include "speechgru.h"

#include <string.h>

#include "sg_internal.h"
#include "sg_math.h"

#define CONTEXT (SG_WINDOW_SAMPLES - SG_HOP_SAMPLES)
/* The state may be reset at every fifth step. */
#define GRID_STEPS 5
#define LOWEST_DB -60.0f
#define QUIET_MARGIN_DB 6.0f

void sg_init(sg_state *state)
{
    memset(state, 0, sizeof *state);
    state->filled = CONTEXT;
    sg_init_detector(&state->detector);
}

const float *sg_log_posteriors(const sg_state *state)
{
    return state->log_posteriors;
}

#if SG_RESET == SG_RESET_IN_SILENCE
/* Whether it has been quiet for long enough: close to the lowest level of the last ten seconds. */
static int is_silent(sg_resets *resets)
{
    float samples = (float)GRID_STEPS * SG_STEP_SAMPLES;
    float level_db = 4.342944819f * sg_log(resets->energy / samples + 1e-12f), lowest_db;
    uint32_t i, n;

    level_db = level_db < LOWEST_DB ? LOWEST_DB : level_db;
    resets->levels_db[resets->levels++ % SG_LEVELS] = level_db;
    n = resets->levels < SG_LEVELS ? resets->levels : SG_LEVELS;
    if (resets->levels == 2 * SG_LEVELS) resets->levels = SG_LEVELS;
    lowest_db = level_db;
    for (i = 0; i < n; i++) {
        lowest_db = resets->levels_db[i] < lowest_db ? resets->levels_db[i] : lowest_db;
    }
    resets->quiet = level_db <= lowest_db + QUIET_MARGIN_DB ? resets->quiet + 1 : 0;
    return resets->quiet >= SG_QUIET_NEEDED;
}
#endif

int sg_update_resets(sg_resets *resets, const int16_t *samples, int had_event)
{
    int reset = 0;

#if SG_RESET == SG_RESET_IN_SILENCE
    int64_t energy = 0;
    int i;

    for (i = 0; i < SG_STEP_SAMPLES; i++) energy += (int32_t)samples[i] * samples[i];
    resets->energy += (float)energy / (32768.0f * 32768.0f);
#else
    (void)samples;
#endif
    resets->had_event = (uint16_t)(resets->had_event | had_event);
    if (++resets->steps < GRID_STEPS) return 0;
#if SG_RESET == SG_RESET_IN_SILENCE
    reset = is_silent(resets);
#elif SG_RESET == SG_RESET_AFTER_EVENTS
    reset = resets->had_event;
#endif
    resets->steps = 0, resets->had_event = 0, resets->energy = 0.0f;
    return reset;
}

/* One step, of the samples that lie ready; 1 if there is an event. */
static int step(sg_state *state, sg_event *event)
{
    int frame, had_event;

    for (frame = 0; frame < SG_FRAMES_PER_STEP; frame++) {
        sg_frame(
            state->samples + frame * SG_HOP_SAMPLES,
            state->work.spectrum,
            state->features + frame * SG_FEATURES);
    }
    sg_network(state);
    had_event = sg_detect(&state->detector, state->log_posteriors, state->steps++, event);
    if (sg_update_resets(&state->resets, state->samples + CONTEXT, had_event)) {
        memset(state->hidden, 0, sizeof state->hidden);
    }
    memmove(state->samples, state->samples + SG_STEP_SAMPLES, sizeof *state->samples * CONTEXT);
    state->filled = CONTEXT;
    return had_event;
}

size_t sg_push(sg_state *state, const int16_t *samples, size_t n, sg_event *event)
{
    size_t used = 0;

    memset(event, 0, sizeof *event);
    event->word = -1;
    while (used < n) {
        size_t room = SG_WINDOW_SAMPLES + SG_HOP_SAMPLES - state->filled;
        size_t taken = n - used < room ? n - used : room;
        memcpy(state->samples + state->filled, samples + used, sizeof *samples * taken);
        state->filled += (uint32_t)taken;
        used += taken;
        if (taken == room && step(state, event)) break;
    }
    return used;
}
