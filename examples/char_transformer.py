"""A small transformer learns the next byte of Python's own source files: PyTorch, looked after by three lines.

    python examples/char_transformer.py                   guarded by itself; `sitter attach` shows it
    sitter run -- python examples/char_transformer.py     the same under the terminal UI

The three lines are marked with `sitter:`. Everything else is an ordinary training script.
"""

import argparse
import math
import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.data import DataLoader, Dataset

import sitter_agent


class Block(nn.Module):
    """Attention that looks back, then a small network; both added to what came in (pre-norm)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.norm2(x))


class CharTransformer(nn.Module):
    """Logits (B, T, 256) of the next byte for bytes (B, T)."""

    def __init__(self, width: int = 96, layers: int = 3, heads: int = 4, context: int = 96) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(256, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256, bias=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        return self.head(self.norm(self.blocks(self.token(x) + self.place(places))))


class Windows(Dataset):
    """Every stretch of `context` bytes and the same one byte on."""

    def __init__(self, text: bytes, context: int) -> None:
        self.text, self.context = torch.frombuffer(bytearray(text), dtype=torch.uint8), context

    def __len__(self) -> int:
        return (len(self.text) - 1) // self.context

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        window = self.text[i * self.context : (i + 1) * self.context + 1].long()
        return window[:-1], window[1:]


def python_sources(limit: int = 2_000_000) -> tuple[bytes, bytes]:
    """The standard library's modules by name: every twelfth for validation, the others to learn from."""
    texts = [path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))]
    train = b"".join(text for i, text in enumerate(texts) if i % 12)
    return train[:limit], b"".join(texts[::12])[: limit // 10]


def cosine_with_warmup(optimizer: torch.optim.Optimizer, warmup: int, total: int) -> torch.optim.lr_scheduler.LambdaLR:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@torch.no_grad()
def validate(model: nn.Module, loader: DataLoader, device: str, batches: int = 20) -> float:
    model.eval()
    losses = [
        cross_entropy(model(x.to(device)).flatten(0, 1), y.to(device).flatten()).item()
        for _, (x, y) in zip(range(batches), loader, strict=False)
    ]
    model.train()
    return sum(losses) / len(losses)


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_500, help="optimizer steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16, help="windows in one turn")
    parser.add_argument("--accumulate", type=int, default=2, help="turns to one optimizer step")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--eval-every", type=int, default=100)
    parser.add_argument("--save", type=Path, default=Path("char_transformer.pt"), help="this script's own checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    context = 96
    train_text, val_text = python_sources()
    loader = DataLoader(Windows(train_text, context), batch_size=args.batch, shuffle=True, drop_last=True)
    val_loader = DataLoader(Windows(val_text, context), batch_size=64)

    model = CharTransformer(context=context).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.05)
    scheduler = cosine_with_warmup(optimizer, warmup=min(100, args.steps // 5 + 1), total=args.steps)

    agent = sitter_agent.start(model=model, optimizer=optimizer, scheduler=scheduler, goal="val_loss")  # sitter: 1
    turn, val_loss = 0, float("nan")
    for step, (x, y) in agent.loop(loader, total=args.steps):  # sitter: 2
        logits = model(x.to(args.device))
        loss = cross_entropy(logits.flatten(0, 1), y.to(args.device).flatten())
        (loss / args.accumulate).backward()
        turn += 1
        if turn % args.accumulate:
            continue
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        agent.log(loss=loss.detach(), grad_norm=grad_norm)  # sitter: 3; a tensor on the GPU is not waited for

        if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
            val_loss = validate(model, val_loader, args.device)
            agent.log(val_loss=val_loss)
            print(f"step {step + 1:>6}  loss {loss.item():.3f}  val_loss {val_loss:.3f}")
            torch.save({"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, args.save)
    return val_loss


if __name__ == "__main__":
    main()
