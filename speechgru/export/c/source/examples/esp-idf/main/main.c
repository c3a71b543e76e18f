/* Words from an I2S microphone (INMP441 and the like) on an ESP32. */
#include <stdio.h>

#include "driver/i2s_std.h"
#include "esp_err.h"
#include "freertos/FreeRTOS.h"
#include "speechgru.h"

#define CLOCK_PIN GPIO_NUM_4
#define WORD_SELECT_PIN GPIO_NUM_5
#define DATA_PIN GPIO_NUM_6
/* Such microphones give 24 bits in 32, at a low level: 14 rather than 16 bits are dropped. */
#define SHIFT 14

static sg_state state;

static i2s_chan_handle_t open_microphone(void)
{
    i2s_chan_handle_t microphone;
    i2s_chan_config_t channel = I2S_CHANNEL_DEFAULT_CONFIG(I2S_NUM_AUTO, I2S_ROLE_MASTER);
    i2s_std_config_t config = {
        .clk_cfg = I2S_STD_CLK_DEFAULT_CONFIG(SG_SAMPLE_RATE),
        .slot_cfg = I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(I2S_DATA_BIT_WIDTH_32BIT, I2S_SLOT_MODE_MONO),
        .gpio_cfg = {
            .mclk = I2S_GPIO_UNUSED,
            .bclk = CLOCK_PIN,
            .ws = WORD_SELECT_PIN,
            .dout = I2S_GPIO_UNUSED,
            .din = DATA_PIN,
        },
    };

    /* The microphone's L/R pin is tied to ground. */
    config.slot_cfg.slot_mask = I2S_STD_SLOT_LEFT;
    ESP_ERROR_CHECK(i2s_new_channel(&channel, NULL, &microphone));
    ESP_ERROR_CHECK(i2s_channel_init_std_mode(microphone, &config));
    ESP_ERROR_CHECK(i2s_channel_enable(microphone));
    return microphone;
}

static int16_t to_16_bits(int32_t sample)
{
    sample >>= SHIFT;
    return (int16_t)(sample > INT16_MAX ? INT16_MAX : sample < INT16_MIN ? INT16_MIN : sample);
}

void app_main(void)
{
    static int32_t raw[SG_STEP_SAMPLES];
    static int16_t samples[SG_STEP_SAMPLES];
    i2s_chan_handle_t microphone = open_microphone();

    sg_init(&state);
    for (;;) {
        const int16_t *next = samples;
        size_t bytes = 0, n, i;
        ESP_ERROR_CHECK(i2s_channel_read(microphone, raw, sizeof raw, &bytes, portMAX_DELAY));
        n = bytes / sizeof *raw;
        for (i = 0; i < n; i++) samples[i] = to_16_bits(raw[i]);
        while (n > 0) {
            sg_event event;
            size_t used = sg_push(&state, next, n, &event);
            if (event.word >= 0) printf("%s\n", sg_words[event.word]);
            next += used;
            n -= used;
        }
    }
}
