"""Under Hugging Face's Trainer and Lightning: after a restart the weights, and the trainer's own counter, go on from the checkpoint."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HF = """
    import os, signal, sys, torch, transformers
    from torch import nn
    from sitter_agent.frameworks.transformers import SitterCallback
    class Model(nn.Module):
        def __init__(self):
            super().__init__(); self.w = nn.Parameter(torch.zeros(3))
        def forward(self, x, y):
            out = x @ self.w
            return {"loss": (out - y).square().mean(), "logits": out}
    class End(transformers.TrainerCallback):
        def on_train_begin(self, args, state, control, **k): print("begins", state.global_step, model.w.abs().sum().item() > 0, flush=True)
        def on_step_end(self, args, state, control, **k):
            if state.global_step == int(sys.argv[1]): print("was", state.global_step, flush=True); os.kill(os.getpid(), signal.SIGTERM)
    rows = [{"x": torch.randn(3), "y": torch.ones(())} for _ in range(64)]
    model = Model()
    arguments = transformers.TrainingArguments(output_dir="out", max_steps=40, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", learning_rate=0.1)
    transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[SitterCallback(name="x"), End()]).train()
    print("ends", flush=True)
"""
LIGHTNING = """
    import os, signal, sys, lightning, torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
    from sitter_agent.frameworks.lightning import SitterCallback
    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__(); self.w = nn.Parameter(torch.zeros(3))
        def training_step(self, batch, index): return (batch[0] @ self.w - 1).square().mean()
        def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=0.1)
    class End(lightning.Callback):
        def on_train_start(self, trainer, module): print("begins", trainer.global_step, module.w.abs().sum().item() > 0, flush=True)
        def on_train_batch_end(self, trainer, module, *a):
            if trainer.global_step == int(sys.argv[1]): print("was", trainer.global_step, flush=True); os.kill(os.getpid(), signal.SIGTERM)
            self.last = trainer.global_step
    end = End()
    trainer = lightning.Trainer(max_steps=40, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[SitterCallback(name="x"), end])
    trainer.fit(Model(), DataLoader(TensorDataset(torch.randn(64, 3)), batch_size=4))
    print("ends", end.last, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("body", [HF, LIGHTNING], ids=["transformers", "lightning"])
def test_the_trainers_counter_goes_on_from_the_checkpoint(tmp_path: Path, body: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(body))
    environment = {**os.environ, "SITTER": "off", "SITTER_RUNTIME_DIR": str(tmp_path / "r"), "OMP_NUM_THREADS": "1"}

    def run(stop: int, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, str(script), str(stop)], cwd=tmp_path, env=environment | more, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM), done.stderr
        return done.stdout + done.stderr

    first = run(15)
    assert "begins 0 False" in first
    assert "ends" not in first
    where = tmp_path / "sitter-runs" / "x"
    (checkpoint,) = (where / "checkpoints").glob("*.pt")
    step = int(checkpoint.name.split("-")[0])
    assert step in (15, 16)
    second = run(-1, SITTER_RUN=str(where), SITTER_RESUME=str(checkpoint))
    assert f"begins {step} True" in second
    assert f"going on from step {step}" in second
    assert "ends" in second
    if body is LIGHTNING:
        assert "ends 40" in second
