/* Runs the example on samples from stdin: words on stdout. The microphone gives 24 bits in 32. */
#include <stdio.h>

#include "driver/i2s_std.h"
#include "freertos/FreeRTOS.h"

struct i2s_channel_obj_t {
    i2s_std_config_t config;
    bool enabled;
};

void app_main(void);

static struct i2s_channel_obj_t channel;

esp_err_t i2s_new_channel(
    const i2s_chan_config_t *config, i2s_chan_handle_t *tx_handle, i2s_chan_handle_t *rx_handle)
{
    if (config->role != I2S_ROLE_MASTER || tx_handle != NULL) return -1;
    *rx_handle = &channel;
    return ESP_OK;
}

esp_err_t i2s_channel_init_std_mode(i2s_chan_handle_t handle, const i2s_std_config_t *config)
{
    handle->config = *config;
    return ESP_OK;
}

esp_err_t i2s_channel_enable(i2s_chan_handle_t handle)
{
    handle->enabled = true;
    return ESP_OK;
}

esp_err_t i2s_channel_read(
    i2s_chan_handle_t handle, void *to, size_t size, size_t *bytes_read, uint32_t timeout_ms)
{
    const i2s_std_slot_config_t *slots = &handle->config.slot_cfg;
    int32_t *samples = to;
    size_t n = 0;
    unsigned char bytes[2];

    if (!handle->enabled || handle->config.clk_cfg.sample_rate_hz != 16000) return -1;
    if (slots->slot_mode != I2S_SLOT_MODE_MONO || slots->slot_mask != I2S_STD_SLOT_LEFT) return -1;
    if (slots->data_bit_width != I2S_DATA_BIT_WIDTH_32BIT || timeout_ms != portMAX_DELAY) return -1;
    while (4 * n < size && fread(bytes, 1, 2, stdin) == 2) {
        samples[n++] = (int16_t)(uint16_t)(bytes[0] | bytes[1] << 8) * (1 << 14);
    }
    if (n == 0) exit(0);
    *bytes_read = 4 * n;
    return ESP_OK;
}

int main(void)
{
    app_main();
    return 1;
}
