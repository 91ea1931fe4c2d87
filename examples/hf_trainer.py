"""Hugging Face's Trainer: one callback. The model is tiny and random, so nothing is downloaded.

    pip install transformers accelerate
    python examples/hf_trainer.py --steps 300
"""

import argparse
import sysconfig
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from sitter_agent.frameworks.transformers import SitterCallback


class Bytes(Dataset):
    """Stretches of a text; the model shifts the labels by itself."""

    def __init__(self, text: bytes, context: int = 64) -> None:
        whole = bytearray(text[: len(text) // context * context])
        self.windows = torch.frombuffer(whole, dtype=torch.uint8).view(-1, context)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        window = self.windows[i].long()
        return {"input_ids": window, "labels": window}


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", default="hf_trainer_output")
    args = parser.parse_args(argv)

    text = b"".join(p.read_bytes() for p in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))[:600_000]
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=256, n_positions=64, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=args.output, max_steps=args.steps, per_device_train_batch_size=8, gradient_accumulation_steps=2,
            per_device_eval_batch_size=32, learning_rate=3e-3, warmup_steps=20, lr_scheduler_type="cosine",
            eval_strategy="steps", eval_steps=max(1, args.steps // 5), logging_steps=50, save_strategy="no",
            report_to="none", disable_tqdm=True, seed=0, dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=Bytes(text[:-60_000]),
        eval_dataset=Bytes(text[-60_000:]),
        callbacks=[SitterCallback(goal="val_loss")],
    )  # fmt: skip
    return trainer.train().training_loss


if __name__ == "__main__":
    main()
