"""What reinforcement learning logs, by the names that its libraries give it."""

import math

REWARD = (
    "reward", "reward_mean", "mean_reward", "rewards/mean", "train/reward", "ep_rew_mean", "rollout/ep_rew_mean", "episode_reward",
    "episode_return", "episodic_return", "charts/episodic_return", "mean_return", "return", "objective/rlhf_reward",
)  # fmt: skip
ENTROPY = ("entropy", "policy_entropy", "policy/entropy", "policy/entropy_avg", "losses/entropy", "objective/entropy", "train/entropy")
KL = (
    "kl", "approx_kl", "mean_kl", "policy_kl", "kl_divergence", "train/approx_kl", "losses/approx_kl", "policy/approxkl_avg", "train/kl",
    "objective/kl",
)  # fmt: skip
SPREAD = ("reward_std", "rewards/std", "train/reward_std", "advantage_std", "advantages_std", "adv_std", "train/advantage_std")
"""Standard deviations of rewards or advantages within a batch."""


def first_of(values: dict[str, float], names: tuple[str, ...]) -> tuple[str, float] | None:
    """Name and value of the first of ``names`` that is there and finite."""
    for name in names:
        value = values.get(name)
        if value is not None and math.isfinite(value):
            return name, value
    return None
