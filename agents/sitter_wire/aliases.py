"""The names that frameworks and people give to the loss, and the one that it is recorded under."""

ALIASES = {
    "train_loss": "loss", "train/loss": "loss", "training_loss": "loss", "loss/train": "loss",
    "eval_loss": "val_loss", "val/loss": "val_loss", "eval/loss": "val_loss", "valid_loss": "val_loss", "validation_loss": "val_loss",
    "loss/val": "val_loss", "test_loss": "val_loss",
}  # fmt: skip
