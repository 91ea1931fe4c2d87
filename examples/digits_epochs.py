"""Handwritten digits by epochs: the goal is an accuracy, and higher is better.

    pip install scikit-learn
    python examples/digits_epochs.py --epochs 40
"""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import sitter_agent


def digits(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """1,797 pictures of 8 × 8 pixels, a fifth of them kept for validation. They come with scikit-learn."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=0.2, random_state=seed, stratify=y)
    x_train, x_val = (torch.tensor(a, dtype=torch.float32).view(-1, 1, 8, 8) for a in parts[:2])
    y_train, y_val = (torch.tensor(a) for a in parts[2:])
    return TensorDataset(x_train, y_train), TensorDataset(x_val, y_val)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    model.train()
    return right / len(loader.dataset)


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    train, val = digits(args.seed)
    loader, val_loader = DataLoader(train, batch_size=args.batch, shuffle=True), DataLoader(val, batch_size=256)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    agent = sitter_agent.start(model=model, optimizer=optimizer, scheduler=scheduler, goal="val_acc", better="higher")
    val_acc = 0.0
    for epoch in agent.epochs(args.epochs):
        for x, y in agent.batches(loader):
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            agent.log(loss=loss.item())
        scheduler.step()
        val_acc = accuracy(model, val_loader)
        agent.log(val_acc=val_acc)
        print(f"epoch {epoch + 1:>3}  loss {loss.item():.3f}  val_acc {val_acc:.3f}")
    return val_acc


if __name__ == "__main__":
    main()
