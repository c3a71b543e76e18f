"""The generated C files of a model: sizes and settings, tables, and weights in both kinds."""

import math
from collections.abc import Iterable, Sequence

from numpy.typing import NDArray

from speechgru.decoding.detector import ONSET, DetectorConfig
from speechgru.decoding.detector_steps import PAUSE
from speechgru.export.c.tables import FrontendTables, NetworkTables, Rows, frontend_tables
from speechgru.export.c.text import comment, defines, fours, strings, structs, table
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.model.fronts import FRAMES_PER_STEP
from speechgru.model.network import SpeechGRU
from speechgru.recognition.state_policy import FLOOR_MEMORY, GRID_STEPS, MODES, StatePolicy

#: Posteriors are integers in units of 1 / UNIT: SG_UNIT in the sources.
UNIT = 2**22
#: SG_RESET by the mode of the state policy.
RESETS = {mode: number for number, mode in enumerate(MODES)}
assert MODES == ("carry", "silence", "event")


def header(
    model: SpeechGRU,
    tables: NetworkTables,
    detector: DetectorConfig,
    policy: StatePolicy,
    title: str,
) -> str:
    """`sg_model.h`: everything that the sources are compiled for."""
    config, features = model.config, model.features.config
    step_s = model.step_samples / model.sample_rate
    words, labels = model.vocabulary.words, model.labels
    smoothing_steps = max(1, round(detector.smoothing_s / step_s))
    duration_steps = max(1, round(detector.min_duration_s / step_s))
    watches_silence = SILENCE in labels and detector.most_silence < 1
    silence_steps = smoothing_steps + duration_steps
    watches_unknown = UNKNOWN in labels and detector.most_unknown < 1
    unknown_steps = max(1, round(detector.unknown_s / step_s))
    pause_steps = round(detector.pause_s / step_s) if SILENCE in labels else 0
    convs = tables.convs
    front_size = tables.project.weights.shape[-1]
    widest = max(
        *(conv.outputs * conv.output_bands for conv in convs),
        *(front_size, 3 * config.hidden, len(tables.head.biases)),
    )
    kernel = config.front_kernel
    values = {
        "SAMPLE_RATE": model.sample_rate,
        "WINDOW_SAMPLES": features.window_samples,
        "HOP_SAMPLES": features.hop_samples,
        "STEP_SAMPLES": model.step_samples,
        "FRAMES_PER_STEP": FRAMES_PER_STEP,
        "FFT_SAMPLES": features.fft_samples,
        "MELS": features.mels,
        "CEPSTRA": features.cepstra if features.kind == "mfcc" else 0,
        "FEATURES": features.size,
        "CONVS": len(convs),
        "KERNEL": kernel if convs else 0,
        "FRAMES_SIZE": sum(kernel * (conv.bands + 4) * conv.inputs for conv in convs),
        "FRONT_SIZE": front_size,
        "HIDDEN": config.hidden,
        "LAYERS": config.layers,
        "LAYER_NORM": int(config.layer_norm),
        "RESIDUAL": int(config.residual),
        "OUTPUTS": len(tables.head.biases),
        "WIDEST": widest,
        "ACTIVATION_MAX": float(tables.largest_activation),
        "LABELS": len(labels),
        "WORDS": len(words),
        "UNKNOWN": labels.index(UNKNOWN) if UNKNOWN in labels else 0,
        "SILENCE": labels.index(SILENCE) if SILENCE in labels else 0,
        "SMOOTHING_STEPS": smoothing_steps,
        "DURATION_STEPS": duration_steps,
        "REFRACTORY_STEPS": round(detector.refractory_s / step_s),
        "ONSET_LIMIT": math.ceil(ONSET * UNIT),
        "WATCHES_SILENCE": int(watches_silence),
        "SILENCE_STEPS": silence_steps if watches_silence else 1,
        "SILENCE_LIMIT": math.floor(UNIT * detector.most_silence * silence_steps),
        "WATCHES_UNKNOWN": int(watches_unknown),
        "UNKNOWN_STEPS": unknown_steps if watches_unknown else 1,
        "UNKNOWN_LIMIT": math.floor(UNIT * detector.most_unknown * unknown_steps),
        "PAUSE_LIMIT": math.ceil(PAUSE * UNIT),
        "PAUSE_STEPS": pause_steps if watches_unknown else 0,
        "RESET_IN_SILENCE": RESETS["silence"],
        "RESET_AFTER_EVENTS": RESETS["event"],
        "RESET": RESETS[policy.mode],
        "LEVELS": FLOOR_MEMORY if policy.mode == "silence" else 1,
        "QUIET_NEEDED": max(1, round(policy.silence_s / (GRID_STEPS * step_s))),
    }
    about = (
        f"/* {comment(title)}: sizes and settings, written by `speechgru export --c`.\n"
        f" *\n * {model.parameter_count:,} parameters; 8-bit weights and their scales take "
        f"{int8_bytes(tables):,} bytes,\n * the other tables {table_bytes(model, tables):,}; "
        f"{model.multiply_adds:,} multiply-adds a step of {1000 * step_s:g} ms. */\n"
    )
    return f"{about}#ifndef SG_MODEL_H\n#define SG_MODEL_H\n\n{defines(values)}\n#endif\n"


def tables_file(model: SpeechGRU, tables: NetworkTables, detector: DetectorConfig) -> str:
    """`sg_tables.c`: what is the same whatever the weights are."""
    frontend = frontend_tables(model)
    step_s = model.step_samples / model.sample_rate
    window = max(1, round(detector.smoothing_s / step_s))
    words = model.vocabulary.words
    thresholds = [detector.threshold_for(word) for word in words]
    sums = [UNIT * threshold * window for threshold in thresholds]
    columns = [model.labels.index(word) for word in words]
    return "\n".join(
        [
            '#include "sg_internal.h"\n',
            strings("sg_words[SG_WORDS]", words),
            strings("sg_labels[SG_LABELS]", model.labels),
            *_frontend(frontend),
            *_norms(tables.norms),
            table("const float", "sg_log_prior[SG_LABELS]", model.log_prior.numpy()),
            table("const uint16_t", "sg_word_columns[SG_WORDS]", columns),
            table(
                "const uint32_t",
                "sg_step_limits[SG_WORDS]",
                [math.ceil(UNIT * threshold) for threshold in thresholds],
            ),
            table("const uint32_t", "sg_sum_limits[SG_WORDS]", [math.ceil(s) for s in sums]),
            table(
                "const uint32_t",
                "sg_release_limits[SG_WORDS]",
                [math.ceil(detector.release * s) for s in sums],
            ),
        ]
    )


def weights_file(tables: NetworkTables, int8: bool) -> str:
    """`sg_weights_int8.c` or `sg_weights_float.c`: empty unless it is the kind compiled for."""
    kind = "ifndef" if int8 else "ifdef"
    writer = _Weights(int8)
    convs = [
        f"{conv.inputs}, {conv.bands}, {conv.output_bands}, {conv.stride}, {conv.band_stride}, "
        f"{{{writer.matrix(f'conv{i}', conv.rows)}}}"
        for i, conv in enumerate(tables.convs)
    ]
    layers = [
        f"{{{writer.matrix(f'input{i}', w)}}}, {{{writer.matrix(f'recurrent{i}', u)}}}"
        for i, (w, u) in enumerate(tables.layers)
    ]
    matrices = [
        f"const sg_matrix sg_{name} = {{{writer.matrix(name, rows)}}};\n"
        for name, rows in (("project", tables.project), ("head", tables.head))
    ]
    definitions = [structs("const sg_gru", "sg_layers[SG_LAYERS]", layers), *matrices]
    if convs:
        definitions.insert(0, structs("const sg_conv", "sg_convs[SG_CONVS]", convs))
    body = "\n".join([*writer.definitions, *definitions])
    return f'#include "sg_internal.h"\n\n#{kind} SG_FLOAT\n\n{body}\n#endif\n'


class _Weights:
    """Collects the arrays that structs point to."""

    def __init__(self, int8: bool) -> None:
        self.int8 = int8
        self.definitions: list[str] = []

    def matrix(self, name: str, rows: Rows) -> str:
        """Define the arrays of a matrix; gives the fields of its struct."""
        scales, row = "0", rows.weights.shape[-1]
        weights: NDArray
        if self.int8:
            weights, factors = rows.int8()
            row = weights.shape[-1]
            scales = f"{name}_scales"
            self.definitions.append(table("static const float", scales, factors))
            self.definitions.append(fours("static const sg_weight", f"{name}_weights", weights))
        else:
            weights = rows.tiles()
            self.definitions.append(table("static const sg_weight", f"{name}_weights", weights))
        self.definitions.append(table("static const float", f"{name}_biases", rows.biases))
        return f"{len(rows.weights)}, {row}, {name}_weights, {scales}, {name}_biases"


def int8_bytes(tables: NetworkTables) -> int:
    """Size of the 8-bit weights with scales and biases."""
    return sum(
        sum(array.nbytes for array in rows.int8()) + rows.biases.nbytes for rows in tables.products
    )


def table_bytes(model: SpeechGRU, tables: NetworkTables) -> int:
    """Size of the frontend's tables and the normalizations."""
    found = frontend_tables(model)
    arrays = [found.window, found.twiddles, found.mel_weights, found.gains, found.biases]
    arrays += [found.dct] if found.dct is not None else []
    arrays += [array for norm in tables.norms for array in norm]
    return sum(array.nbytes for array in arrays) + 4 * len(found.bands)


def _frontend(tables: FrontendTables) -> list[str]:
    bands = [f"{first}, {bins}" for first, bins in tables.bands]
    written = [
        table("const float", "sg_window[SG_WINDOW_SAMPLES]", tables.window),
        table("const float", "sg_twiddles[SG_FFT_SAMPLES]", tables.twiddles),
        structs("const sg_band", "sg_bands[SG_MELS]", bands),
        table("const float", "sg_mel_weights", tables.mel_weights),
        table("const float", "sg_feature_gains[SG_FEATURES]", tables.gains),
        table("const float", "sg_feature_biases[SG_FEATURES]", tables.biases),
    ]
    if tables.dct is not None:
        rows = (", ".join(f"{value:.9e}f" for value in row) for row in tables.dct.tolist())
        written.append(structs("const float", "sg_dct[SG_CEPSTRA][SG_MELS]", rows))
        sums = tables.dct.sum(axis=1)
        written.append(table("const float", "sg_dct_sums[SG_CEPSTRA]", sums))
    return written


def _norms(norms: Sequence[tuple[NDArray, NDArray]]) -> Iterable[str]:
    if not norms:
        return
    for i, (gains, biases) in enumerate(norms):
        yield table("static const float", f"norm{i}_gains", gains)
        yield table("static const float", f"norm{i}_biases", biases)
    rows = [f"norm{i}_gains, norm{i}_biases" for i in range(len(norms))]
    yield structs("const sg_norm", "sg_norms[SG_LAYERS + 1]", rows)
