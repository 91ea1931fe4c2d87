"""The trainings of ``fresh_runs.py`` whose loss has no course: two players, and reinforcement learning. Each makes its own turn.

A turn is one optimizer step at a rate ``factor`` times the usual one, and returns what a user would log.
"""

import abc
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as f

ENVIRONMENTS, ROLLOUT, LONGEST = 16, 16, 200
DISCOUNT = 0.97


class Poles:
    """Sixteen carts, each with a pole to balance: a reward of 1 for each turn that it stands (the classic equations, Euler steps)."""

    def __init__(self, draws: torch.Generator) -> None:
        self.draws = draws
        self.state = self.begun(ENVIRONMENTS)
        self.turns = torch.zeros(ENVIRONMENTS)
        self.lasted = 20.0
        """Turns an episode lasts, on average of late."""

    def begun(self, n: int) -> Tensor:
        return 0.1 * (torch.rand(n, 4, generator=self.draws) - 0.5)

    def step(self, action: Tensor) -> Tensor:
        """Whether each has fallen; those begin again."""
        x, v, angle, w = self.state.unbind(1)
        force = 20.0 * action - 10.0
        cos, sin = angle.cos(), angle.sin()
        push = (force + 0.05 * w * w * sin) / 1.1
        turning = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos * cos / 1.1))
        moving = push - 0.05 * turning * cos / 1.1
        self.state = torch.stack([x + 0.02 * v, v + 0.02 * moving, angle + 0.02 * w, w + 0.02 * turning], 1)
        self.turns += 1
        fallen = (self.state[:, 0].abs() > 2.4) | (self.state[:, 2].abs() > 0.21)
        over = fallen | (self.turns >= LONGEST)
        for length in self.turns[over].tolist():
            self.lasted += 0.05 * (length - self.lasted)
        self.state = torch.where(over[:, None], self.begun(ENVIRONMENTS), self.state)
        self.turns = torch.where(over, torch.zeros(()), self.turns)
        return fallen


class Game(abc.ABC):
    """Base: ``model`` and ``turn``."""

    rate = 1e-3

    def __init__(self, seed: int, extras: frozenset[str]) -> None:
        self.draws = torch.Generator().manual_seed(seed)
        self.extras = extras
        self.begin()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.rate)

    model: nn.Module

    @abc.abstractmethod
    def begin(self) -> None:
        """Make the model."""

    @abc.abstractmethod
    def turn(self, factor: float, trouble: str) -> dict[str, float]:
        """One optimizer step."""

    def learn(self, loss: Tensor, factor: float, optimizer: torch.optim.Optimizer | None = None) -> float:
        """Down the slope; the gradient's norm."""
        optimizer = optimizer or self.optimizer
        optimizer.zero_grad()
        loss.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(parameters, 0.5 if "clip" in self.extras else math.inf))
        for group in optimizer.param_groups:
            group["lr"] = self.rate * factor
        optimizer.step()
        return norm


class Actor(Game):
    """Actor and critic; clipped (PPO) with ``clipped``, else plain. The loss has any sign."""

    rate = 2e-3

    def begin(self) -> None:
        self.poles = Poles(self.draws)
        self.body = nn.Sequential(nn.Linear(4, 48), nn.Tanh())
        self.policy, self.critic = nn.Linear(48, 2), nn.Linear(48, 1)
        self.model = nn.ModuleList([self.body, self.policy, self.critic])
        self.passes: list[tuple[Tensor, ...]] = []

    def turn(self, factor: float, trouble: str) -> dict[str, float]:
        if not self.passes:
            self.passes = [self.rollout(trouble)] * (4 if "clipped" in self.extras else 1)
        states, actions, before, returns, gains = self.passes.pop()
        h = self.body(states)
        chance = torch.distributions.Categorical(logits=self.policy(h), validate_args=False)  # what is not finite is logged, not raised
        ratio = (chance.log_prob(actions) - before).exp()
        gain = torch.minimum(ratio * gains, ratio.clamp(0.8, 1.2) * gains) if "clipped" in self.extras else ratio * gains
        entropy = chance.entropy().mean()
        loss = -gain.mean() + 0.05 * f.mse_loss(self.critic(h).squeeze(-1), returns) - 0.01 * entropy
        norm = self.learn(loss, factor)
        return {
            "train_loss": loss.item(), "grad_norm": norm, "reward": self.poles.lasted, "entropy": entropy.item(),
            "approx_kl": max(0.0, ((ratio - 1.0) - ratio.log()).mean().item()),
        }  # fmt: skip

    @torch.no_grad()
    def rollout(self, trouble: str) -> tuple[Tensor, ...]:
        states, actions, logs, falls = [], [], [], []
        for _ in range(ROLLOUT):
            state = self.poles.state
            chance = self.policy(self.body(state)).softmax(-1).nan_to_num(0.5)
            action = torch.multinomial(chance, 1, generator=self.draws).squeeze(-1)
            states.append(state)
            actions.append(action)
            logs.append(chance.gather(1, action[:, None]).squeeze(-1).log())
            falls.append(self.poles.step(action.float()))
        value = self.critic(self.body(self.poles.state)).squeeze(-1)
        returns = []
        for fallen in reversed(falls):
            value = (0.1 if trouble != "reward turned" else -0.1) + DISCOUNT * value * (~fallen)
            returns.append(value)
        gathered = torch.cat(states), torch.cat(actions), torch.cat(logs), torch.cat(returns[::-1])
        gains = gathered[3] - self.critic(self.body(gathered[0])).squeeze(-1)
        return *gathered, (gains - gains.mean()) / (gains.std() + 1e-8)


class Values(Game):
    """DQN: the loss rises while the values do, which is as it should be."""

    rate = 1e-3

    def begin(self) -> None:
        self.poles = Poles(self.draws)
        self.model = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 2))
        self.target = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 2))
        self.seen: list[tuple[Tensor, ...]] = []
        self.turns = 0

    def turn(self, factor: float, trouble: str) -> dict[str, float]:
        if self.turns % 200 == 0:
            self.target.load_state_dict(self.model.state_dict())
        self.turns += 1
        with torch.no_grad():
            state = self.poles.state
            explore = torch.rand(ENVIRONMENTS, generator=self.draws) < max(0.05, 1.0 - self.turns / 800)
            chance = torch.randint(2, (ENVIRONMENTS,), generator=self.draws)
            action = torch.where(explore, chance, self.model(state).argmax(1))
            fallen = self.poles.step(action.float())
            self.seen.append((state, action, fallen, self.poles.state))
            del self.seen[:-500]
            i = torch.randint(len(self.seen), (4,), generator=self.draws).tolist()
            states, actions, falls, after = (torch.cat([self.seen[j][k] for j in i]) for k in range(4))
            reward = -1.0 if trouble == "reward turned" else 1.0
            wanted = reward + DISCOUNT * self.target(after).max(1).values * (~falls)
        loss = f.smooth_l1_loss(self.model(states).gather(1, actions[:, None]).squeeze(-1), wanted)
        norm = self.learn(loss, factor)
        return {"train_loss": loss.item(), "grad_norm": norm, "reward": self.poles.lasted}


class Two(Game):
    """A GAN: eight small heaps on a circle. Logged are the maker's loss as ``train_loss``, and both by name."""

    rate = 5e-4

    def begin(self) -> None:
        self.maker = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))
        self.judge = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1))
        self.model = self.maker
        self.other = torch.optim.Adam(self.judge.parameters(), lr=self.rate, betas=(0.5, 0.999))

    def turn(self, factor: float, trouble: str) -> dict[str, float]:
        turn = torch.randint(8, (64,), generator=self.draws) * (math.pi / 4)
        real = torch.stack([turn.cos(), turn.sin()], 1) + 0.05 * torch.randn(64, 2, generator=self.draws)
        made = self.maker(torch.randn(64, 4, generator=self.draws))
        judged = f.softplus(-self.judge(real)).mean() + f.softplus(self.judge(made.detach())).mean()
        self.learn(judged, factor * (30.0 if trouble == "one wins" else 1.0), self.other)
        loss = f.softplus(-self.judge(made)).mean()
        norm = self.learn(loss, factor)
        return {"train_loss": loss.item(), "g_loss": loss.item(), "d_loss": judged.item(), "grad_norm": norm}


GAMES: dict[str, type[Game]] = {"actor": Actor, "values": Values, "two players": Two}

