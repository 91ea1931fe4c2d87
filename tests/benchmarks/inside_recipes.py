"""Small real trainings, healthy and sick inside: what ``inside.py`` trains. Everything is drawn from a seed; seconds each.

A recipe is a function of the seed and of the number of turns that will be made. It gives a ``Training``: models and optimizers by name,
as they are given to ``sitter_agent.start``, and ``turn``, which makes one turn of the loop and gives the values that the script logs.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from inside_models import (  # beside this file
    BATCH,
    Gpt,
    Low,
    Lstm,
    ResNet,
    UNet,
    images,
    initialised,
    letters,
    mlp,
    vectors,
)
from torch import Tensor, nn
from torch.nn import functional as f
from torch.optim.lr_scheduler import LambdaLR


@dataclass
class Training:
    """One run. ``kind`` as in ``sitter_agent.start``; ``classes``: told to ``poor_initialisation``."""

    models: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    turn: Callable[[int], dict[str, float]]
    kind: str = "supervised"
    classes: int = 0


Recipe = Callable[[int, int], Training]


# -- loops ----------------------------------------------------------------------------------------------------------------


def warm_cosine(warm: int, total: int, end: float = 0.0) -> Callable[[int], float]:
    """From nothing to 1 within ``warm`` steps, then down to ``end``."""

    def at(i: int) -> float:
        if i < warm:
            return (i + 1) / warm
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, (i - warm) / max(1, total - warm))))

    return at


def supervised(
    model: nn.Module, data: Iterator[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer, *,
    schedule: Callable[[int], float] | None = None, clip: float = 0.0, bf16: bool = False, classes: int = 0,
    before: Callable[[int], None] | None = None,
) -> Training:  # fmt: skip
    """Cross entropy."""
    scheduler = LambdaLR(optimizer, schedule) if schedule else None

    def turn(step: int) -> dict[str, float]:
        if before:
            before(step)
        x, y = next(data)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = f.cross_entropy(model(x).flatten(0, -2), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if scheduler:
            scheduler.step()
        return {"loss": loss.item()}

    return Training({"": model}, {"": optimizer}, turn, classes=classes)


def sgd(model: nn.Module, rate: float, **more: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), rate, momentum=0.9, **more)


def adamw(model: nn.Module, rate: float, decay: float = 0.01) -> torch.optim.AdamW:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate, weight_decay=decay)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, loss_of: Callable[[], Tensor], kind: str = "supervised") -> Training:
    """A loss of one's own."""

    def turn(step: int) -> dict[str, float]:
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item()}

    return Training({"": model}, {"": optimizer}, turn, kind=kind)


def after(turns: int, training: Training) -> nn.Module:
    """The model, trained before."""
    for i in range(turns):
        training.turn(i)
    return training.models[""]


# -- healthy --------------------------------------------------------------------------------------------------------------


def mlp_batchnorm(seed: int, turns: int) -> Training:
    m = mlp(64, 5, nn.ReLU, norm=True)
    return supervised(m, vectors(seed), torch.optim.Adam(m.parameters(), 1e-3))


def mlp_deep_he_sgd(seed: int, turns: int) -> Training:
    m = initialised(mlp(64, 12, nn.ReLU), lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"))
    return supervised(m, vectors(seed), sgd(m, 1e-3), schedule=warm_cosine(0, turns))


def mlp_tanh_xavier(seed: int, turns: int) -> Training:
    m = initialised(mlp(64, 8, nn.Tanh), lambda w: nn.init.xavier_normal_(w, gain=5 / 3))
    return supervised(m, vectors(seed), torch.optim.Adam(m.parameters(), 1e-3))


def mlp_default(seed: int, turns: int) -> Training:
    m = mlp(64, 4, nn.ReLU)
    return supervised(m, vectors(seed), sgd(m, 0.05))


def logistic(seed: int, turns: int) -> Training:
    m = nn.Linear(32, 10)
    return supervised(m, vectors(seed), sgd(m, 0.05))


def resnet_sgd(seed: int, turns: int) -> Training:
    m = ResNet()
    return supervised(m, images(seed), sgd(m, 0.05, weight_decay=5e-4), schedule=warm_cosine(0, turns))


def resnet_steps(seed: int, turns: int) -> Training:
    m = ResNet()
    return supervised(m, images(seed), sgd(m, 0.1, weight_decay=1e-4), schedule=lambda i: 0.1 ** (2 * i // turns))


def resnet_zero(seed: int, turns: int) -> Training:
    m = ResNet(zero=True)
    return supervised(m, images(seed), adamw(m, 1e-3))


def vgg_batchnorm(seed: int, turns: int) -> Training:
    parts: list[nn.Module] = []
    for i in range(8):
        parts += [nn.Conv2d(3 if i == 0 else 16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    m = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return supervised(m, images(seed), sgd(m, 0.05))


def gpt_warmup(seed: int, turns: int) -> Training:
    m = Gpt()
    return supervised(m, letters(seed), adamw(m, 3e-3, 0.1), schedule=warm_cosine(100, turns), clip=1.0)


def gpt_no_warmup(seed: int, turns: int) -> Training:
    m = Gpt()
    return supervised(m, letters(seed), adamw(m, 1e-3, 0.1))


def gpt_deep(seed: int, turns: int) -> Training:
    m = Gpt(blocks=10)
    return supervised(m, letters(seed), adamw(m, 6e-4, 0.1), schedule=warm_cosine(50, turns), clip=1.0)


def gpt_post_norm(seed: int, turns: int) -> Training:
    m = Gpt(post=True)
    return supervised(m, letters(seed), adamw(m, 1e-3), schedule=warm_cosine(200, turns))


def gpt_tied(seed: int, turns: int) -> Training:
    m = Gpt(tied=True)
    return supervised(m, letters(seed), adamw(m, 1e-3), schedule=warm_cosine(100, turns))


def gpt_bf16(seed: int, turns: int) -> Training:
    m = Gpt()
    return supervised(m, letters(seed), adamw(m, 1e-3), schedule=warm_cosine(100, turns), bf16=True, clip=1.0)


def gpt_long_warmup(seed: int, turns: int) -> Training:
    m = Gpt()
    return supervised(m, letters(seed), adamw(m, 1e-3), schedule=lambda i: ((i + 1) / turns) ** 2)


def lstm_clip(seed: int, turns: int) -> Training:
    m = Lstm()
    return supervised(m, letters(seed), torch.optim.Adam(m.parameters(), 2e-3), clip=0.5)


def lstm_sgd(seed: int, turns: int) -> Training:
    m = Lstm()
    return supervised(m, letters(seed), sgd(m, 0.5), clip=1.0, schedule=warm_cosine(0, turns))


def tuned_gently(seed: int, turns: int) -> Training:
    m = after(120, gpt_no_warmup(seed, turns))
    return supervised(m, letters(seed + 5), adamw(m, 2e-5), schedule=warm_cosine(50, turns))


def head_then_all(seed: int, turns: int) -> Training:
    m = after(100, resnet_sgd(seed, turns))
    m.head = nn.Linear(16, 10)
    body = [p for n, p in m.named_parameters() if not n.startswith("head")]

    def thaw(step: int) -> None:
        for p in body:
            p.requires_grad_(step >= turns // 2)

    thaw(0)
    return supervised(m, images(seed + 5), torch.optim.AdamW(m.parameters(), 1e-3), before=thaw)


def lora(seed: int, turns: int) -> Training:
    m = after(120, gpt_no_warmup(seed, turns)).requires_grad_(False)
    for block in m.blocks:
        block.qkv, block.proj = Low(block.qkv), Low(block.proj)
    return supervised(m, letters(seed + 5), adamw(m, 1e-3))


def word_vectors(seed: int, turns: int) -> Training:
    draws, data = torch.Generator().manual_seed(seed), letters(seed, 8)
    m = nn.ModuleDict({"word": nn.Embedding(2000, 32, sparse=True), "context": nn.Embedding(2000, 32, sparse=True)})
    nn.init.normal_(m["word"].weight, std=0.1)
    nn.init.zeros_(m["context"].weight)

    def loss() -> Tensor:
        x, y = (part.flatten() * 13 % 2000 for part in next(data))
        right, wrong = ((m["word"](x) * m["context"](other)).sum(1) for other in (y, torch.randint(2000, y.shape, generator=draws)))
        return -(f.logsigmoid(right) + f.logsigmoid(-wrong)).mean()

    return trained(m, torch.optim.SGD(m.parameters(), 0.5), loss)


def autoencoder(seed: int, turns: int) -> Training:
    encoder = nn.Sequential(nn.Linear(432, 64), nn.ReLU(), nn.Linear(64, 8))
    decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 432))
    m, data = nn.ModuleDict({"encoder": encoder, "decoder": decoder}), images(seed)

    def loss() -> Tensor:
        x = next(data)[0].flatten(1)
        return f.mse_loss(decoder(encoder(x)), x)

    return trained(m, torch.optim.Adam(m.parameters(), 1e-3), loss)


def diffusion(seed: int, turns: int) -> Training:
    m, data, draws = UNet(), images(seed), torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        x, noise, t = next(data)[0], torch.randn(BATCH, 3, 12, 12, generator=draws), torch.rand(BATCH, 1, generator=draws)
        share = t[:, :, None, None]
        return f.mse_loss(m((1 - share).sqrt() * x + share.sqrt() * noise, t), noise)

    return trained(m, adamw(m, 1e-3), loss)


def gan(seed: int, turns: int) -> Training:
    draws, data = torch.Generator().manual_seed(seed), images(seed)
    g = nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 432))
    d = nn.Sequential(nn.Linear(432, 128), nn.LeakyReLU(0.2), nn.Linear(128, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    og, od = (torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999)) for net in (g, d))

    def turn(step: int) -> dict[str, float]:
        real, fake = next(data)[0].flatten(1), g(torch.randn(BATCH, 16, generator=draws))
        od.zero_grad()
        d_loss = f.softplus(-d(real)).mean() + f.softplus(d(fake.detach())).mean()
        d_loss.backward()
        od.step()
        og.zero_grad()
        g_loss = f.softplus(-d(fake)).mean()
        g_loss.backward()
        og.step()
        return {"g_loss": g_loss.item(), "d_loss": d_loss.item()}

    return Training({"G": g, "D": d}, {"G": og, "D": od}, turn, kind="gan")


def policy_gradient(seed: int, turns: int) -> Training:
    """Which of four arms is right is told by the state."""
    draws = torch.Generator().manual_seed(seed)
    m = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))

    def loss() -> Tensor:
        state = torch.randn(BATCH, 4, generator=draws)
        logs = m(state).log_softmax(1)
        arm = torch.multinomial(logs.exp().detach(), 1, generator=draws)[:, 0]
        reward = (arm == state.argmax(1)).float()
        return -(logs[torch.arange(BATCH), arm] * (reward - reward.mean())).mean()

    return trained(m, torch.optim.Adam(m.parameters(), 3e-4), loss, kind="rl")


HEALTHY: tuple[Recipe, ...] = (
    mlp_batchnorm, mlp_deep_he_sgd, mlp_tanh_xavier, mlp_default, logistic, resnet_sgd, resnet_steps, resnet_zero, vgg_batchnorm,
    gpt_warmup, gpt_no_warmup, gpt_deep, gpt_post_norm, gpt_tied, gpt_bf16, gpt_long_warmup, lstm_clip, lstm_sgd, tuned_gently,
    head_then_all, lora, word_vectors, autoencoder, diffusion, gan, policy_gradient,
)  # fmt: skip


# -- sick -----------------------------------------------------------------------------------------------------------------


def sigmoid_deep(seed: int, turns: int) -> Training:
    m = mlp(64, 12, nn.Sigmoid)
    return supervised(m, vectors(seed), torch.optim.Adam(m.parameters(), 1e-3))


def sigmoid_deep_sgd(seed: int, turns: int) -> Training:
    m = mlp(64, 12, nn.Sigmoid)
    return supervised(m, vectors(seed), sgd(m, 0.05))


def tanh_small_init(seed: int, turns: int) -> Training:
    m = initialised(mlp(64, 12, nn.Tanh), lambda w: nn.init.xavier_normal_(w, gain=0.4))
    return supervised(m, vectors(seed), sgd(m, 0.05))


def relu_too_wide(seed: int, turns: int) -> Training:
    m = initialised(mlp(64, 12, nn.ReLU), lambda w: nn.init.normal_(w, std=3 / math.sqrt(w.shape[1])))
    return supervised(m, vectors(seed), torch.optim.Adam(m.parameters(), 1e-3), classes=10)


def softsign_too_wide(seed: int, turns: int) -> Training:
    m = initialised(mlp(64, 16, nn.Softsign), lambda w: nn.init.xavier_normal_(w, gain=8.0))
    return supervised(m, vectors(seed), sgd(m, 1e-4))


def head_at_rest(seed: int, turns: int) -> Training:
    """Its group's rate is 0: a forgotten setting."""
    m = ResNet()
    body = [p for n, p in m.named_parameters() if not n.startswith("head")]
    return supervised(m, images(seed), torch.optim.AdamW([{"params": body}, {"params": m.head.parameters(), "lr": 0.0}], 1e-3))


class Detached(ResNet):
    """The blocks get no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).detach().mean((2, 3)))


def detached(seed: int, turns: int) -> Training:
    m = Detached()
    return supervised(m, images(seed), sgd(m, 0.05))


def dead_relu(seed: int, turns: int) -> Training:
    m = mlp(64, 5, nn.ReLU)
    nn.init.constant_(m[4].bias, -100.0)
    return supervised(m, vectors(seed), torch.optim.Adam(m.parameters(), 1e-3))


def rate_far_too_high(seed: int, turns: int) -> Training:
    m = Gpt()
    return supervised(m, letters(seed), adamw(m, 0.3), clip=1.0)


def rate_too_high_sgd(seed: int, turns: int) -> Training:
    m = mlp(64, 5, nn.ReLU, norm=True)
    return supervised(m, vectors(seed), sgd(m, 10.0), clip=1.0)


def rate_far_too_low(seed: int, turns: int) -> Training:
    m = Gpt()
    return supervised(m, letters(seed), adamw(m, 1e-8), clip=1.0)


def gpt_wide_init(seed: int, turns: int) -> Training:
    m = Gpt(std=1.0)
    return supervised(m, letters(seed), adamw(m, 1e-3), classes=128)


def mlp_tiny_init(seed: int, turns: int) -> Training:
    m = initialised(mlp(64, 6, nn.ReLU), lambda w: nn.init.normal_(w, std=1e-3))
    return supervised(m, vectors(seed), sgd(m, 0.05))


def bursts(seed: int, turns: int) -> Training:
    """From the middle on, one block's gradients are thirty times as large: a scale that somebody forgot."""
    m = Gpt()
    on = [False]
    for p in m.blocks[1].parameters():
        p.register_hook(lambda g: 30 * g if on[0] else g)

    def before(step: int) -> None:
        on[0] = step >= turns // 2

    return supervised(m, letters(seed), adamw(m, 1e-3), clip=1.0, before=before)


SICK: dict[str, tuple[Recipe, ...]] = {
    "vanishing_gradients": (sigmoid_deep, sigmoid_deep_sgd, tanh_small_init, mlp_tiny_init),
    "exploding_gradients": (softsign_too_wide, bursts),
    "dead_parameters": (head_at_rest, detached, dead_relu),
    "update_ratio": (rate_far_too_high, rate_too_high_sgd, rate_far_too_low),
    "poor_initialisation": (gpt_wide_init, relu_too_wide),
}
"""By the rule that should say it."""
