"""AdamW equals torch's without importing its compiler; Muon updates matrices, AdamW the rest."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tones import untrained_model

from speechgru.training.optimiser import (
    COEFFICIENTS,
    ITERATIONS,
    Muon,
    make_optimiser,
    orthogonalize,
)
from speechgru.training.recipe import TrainingConfig


def stepped(kind: type[torch.optim.AdamW] | None) -> list[torch.Tensor]:
    """The weights of a network after three steps."""
    model = untrained_model()
    optimiser = make_optimiser(model, TrainingConfig(weight_decay=0.1, learning_rate=0.01))
    if kind is not None:
        optimiser = kind(optimiser.param_groups)
    for seed in range(3):
        for parameter in model.parameters():
            generator = torch.Generator().manual_seed(seed)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()
    return [parameter.detach() for parameter in model.parameters()]


def test_eager_adamw_equals_torchs_adamw():
    for ours, theirs in zip(stepped(None), stepped(torch.optim.AdamW), strict=True):
        assert torch.equal(ours, theirs)


def test_training_does_not_import_the_compiler(tones):
    """The import takes a quarter of the CPU time in which a second run on the same data starts."""
    support = Path(__file__).resolve().parents[1] / "support"
    script = [sys.executable, str(support / "train_a_step.py"), str(tones)]
    assert subprocess.run(script, check=False).returncode == 0


# Muon.


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 16, 16), (2, 5, 30), (1, 30, 5), (4, 1, 7)])
def test_orthogonalize_changes_only_singular_values(shape):
    """Against a singular value decomposition, in double precision."""
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    values = values / values.norm(dim=1, keepdim=True)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    torch.testing.assert_close(orthogonalize(matrices), left @ torch.diag_embed(values) @ right)
    torch.testing.assert_close(
        orthogonalize(1e6 * matrices.float()).double(), orthogonalize(matrices), atol=1e-4, rtol=0
    )


def test_no_step_without_gradient():
    assert torch.equal(orthogonalize(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def muon_and_gradients(steps: int) -> tuple[torch.nn.Module, list[dict[str, torch.Tensor]]]:
    """A network after some steps of Muon, and their gradients."""
    model = untrained_model()
    config = TrainingConfig(optimiser="muon", weight_decay=0.1, learning_rate=0.01)
    optimiser = make_optimiser(model, config)
    assert isinstance(optimiser, Muon)
    gradients = []
    for seed in range(steps):
        torch.manual_seed(seed)
        gradients.append({n: torch.randn(p.shape) for n, p in model.named_parameters()})
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[-1][name].clone()
        optimiser.step()
    return model, gradients


def test_matrix_update_equals_torchs_muon():
    """To a hundredth of the updates' size, as torch computes in bfloat16."""
    model, gradients = muon_and_gradients(3)
    weight = torch.nn.Parameter(untrained_model().project.weight.detach().clone())
    start = weight.detach().clone()
    theirs = torch.optim.Muon(
        [weight], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw", ns_steps=ITERATIONS
    )
    for gradient in gradients:
        weight.grad = gradient["project.weight"]
        theirs.step()
    moved = (weight - start).norm()
    assert (model.project.weight - weight).norm() < 0.01 * moved


def test_each_gate_is_a_separate_matrix():
    model, gradients = muon_and_gradients(1)
    name = "layers.0.gru.weight_hh_l0"
    before, after = (m.get_parameter(name).detach() for m in (untrained_model(), model))
    hidden = model.config.hidden
    assert len(before) == 3 * hidden
    for gate in torch.arange(3 * hidden).split(hidden):
        step = orthogonalize(gradients[0][name][gate][None])[0] * 0.2 * hidden**0.5
        torch.testing.assert_close(after[gate], before[gate] * (1 - 0.01 * 0.1) - 0.01 * step)


def test_adamw_updates_all_but_the_encoders_matrices():
    model, gradients = muon_and_gradients(3)
    names = [n for n, p in model.named_parameters() if p.ndim < 2 or n.startswith("head.")]
    assert "head.weight" in names
    assert "norms.0.bias" in names
    weights = dict(untrained_model().named_parameters())
    groups = [
        {"params": [weights["head.weight"]], "weight_decay": 0.1},
        {"params": [weights[n] for n in names if n != "head.weight"], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98), fused=True)
    for gradient in gradients:
        for name in names:
            weights[name].grad = gradient[name]
        theirs.step()
    for name in names:
        assert torch.equal(model.get_parameter(name), weights[name]), name
