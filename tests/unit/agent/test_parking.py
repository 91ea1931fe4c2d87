"""`pause --free`: a checkpoint, the state into host memory, and every bit and every object where it was before anything goes on.

There is no GPU here: the storages are really shrunk and really grown, on the CPU. tests/gpu has the same on a GPU.
"""

import signal
import threading
import time

import pytest
import torch
from torch import nn

from sitter_agent import parking
from sitter_agent.checkpoint_files import check, read_sidecar
from sitter_agent.frameworks import torch_parked
from sitter_agent.frameworks.torch_parked import Parked, with_gradients
from sitter_wire.commands import Pause, Rollback, SetKnob, Stop, TakeCheckpoint, Unpause
from sitter_wire.events import CheckpointWritten, Done, Paused, Remark
from tests.unit.agent.conftest import Quadratic, Run, raises_at, until


class Net(nn.Module):
    """A tied weight, a flat buffer with views into it, a buffer, an RNN whose weights are views of one storage."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(16, 32, batch_first=True)
        self.out = nn.Linear(32, 64)
        self.back = nn.Linear(32, 64, bias=False)
        self.back.weight = self.out.weight
        self.flat = nn.Parameter(torch.randn(2048))
        self.view = self.flat.detach()[512:1024].view(16, 32)
        self.norm = nn.BatchNorm1d(64)

    def forward(self, x):
        h = self.rnn(x)[0][:, -1]
        return self.norm(self.out(h) + self.back(h)) * self.flat[:64] + self.view.sum()


def made(seed=0):
    torch.manual_seed(seed)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=True)
    return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)


def step(model, optimizer, scheduler):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 5, 16)).square().mean()
    loss.backward()
    optimizer.step()
    scheduler.step()
    return float(loss.detach())


def everything(model, optimizer):
    found = [*model.parameters(), *model.buffers(), model.view]
    for state in optimizer.state.values():
        found += [v for v in state.values() if isinstance(v, torch.Tensor)]
    return with_gradients(found)


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setattr(torch_parked, "KIND", "cpu")


@pytest.fixture
def moved(cpu):
    """A training after some steps, and what it consisted of, to the bit."""
    model, optimizer, scheduler = made()
    for _ in range(3):
        step(model, optimizer, scheduler)
    tensors = everything(model, optimizer)
    return model, optimizer, tensors, [t.detach().clone() for t in tensors], Parked(tensors)


def same(tensors, before):
    return all(torch.equal(t, b) and t.stride() == b.stride() for t, b in zip(tensors, before, strict=True))


def test_away_the_memory_is_free_and_back_is_every_bit_and_every_object(moved):
    model, optimizer, tensors, before, parked = moved
    params, weights = list(map(id, model.parameters())), model.rnn._flat_weights
    parked.go()
    assert parked.freed >= 0.95 * parked.nbytes > 0
    assert all(t.untyped_storage().nbytes() == 0 for t in tensors if t.numel() * 4 >= torch_parked.LEAST)
    parked.back()
    assert same(tensors, before)
    assert list(map(id, model.parameters())) == params == list(map(id, optimizer.param_groups[0]["params"]))
    assert model.back.weight is model.out.weight
    assert all(a is b for a, b in zip(weights, model.rnn._flat_weights, strict=True))
    model.flat.data[512] = 7.0
    assert float(model.view[0, 0]) == 7.0, "views still look into the same memory"


def test_no_room_on_the_way_back_leaves_all_of_it_away(moved):
    *_, tensors, before, parked = moved
    grown = []

    def grow(storage, n):
        if len(grown) == 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        grown.append(storage.resize_(n))

    parked.go()
    parked._grow = grow
    with pytest.raises(MemoryError, match=r"no room for the .* of state: CUDA out of memory"):
        parked.back()
    assert all(t.untyped_storage().nbytes() == 0 for t in tensors if t.numel() * 4 >= torch_parked.LEAST)
    parked._grow = lambda storage, n: storage.resize_(n)
    parked.back()
    assert same(tensors, before)


def test_a_host_without_room_is_told_before_anything_moves(moved, monkeypatch):
    *_, tensors, before, parked = moved
    monkeypatch.setattr(torch_parked, "memory_left", lambda: torch_parked.MARGIN + parked.nbytes - 1)
    with pytest.raises(MemoryError, match="do not fit into the host's memory"):
        parked.go()
    assert same(tensors, before)


def test_stranded_the_same_tensors_can_be_read_and_saved(moved, tmp_path):
    model, _, tensors, before, parked = moved
    parked.go()
    parked.strand()
    assert same(tensors, before)
    torch.save(model.state_dict(), tmp_path / "model.pt")


@pytest.mark.parametrize("fails", [KeyboardInterrupt, RuntimeError])
def test_whatever_comes_up_while_it_goes_it_can_be_put_back(moved, fails):
    *_, tensors, before, parked = moved

    def interrupted():
        raise fails

    parked._give_back = interrupted
    with pytest.raises(fails):
        parked.go()
    del parked._give_back
    parked.back()
    assert same(tensors, before)


# -- in a training -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def training(begin, daemon):
    class Training:
        def __init__(self, gives_way=60.0):
            self.parts = made()
            self.agent = begin(
                model=self.parts[0], optimizer=self.parts[1], scheduler=self.parts[2], pause_gives_way_s=gives_way
            )
            self.d = daemon(self.agent)
            self.run = Run(self.agent.run)
            self.turns = self.agent.loop(range(10), total=1000)
            next(self.turns)
            self.losses = []

        def turn(self, n=1):
            for _ in range(n):
                self.losses.append(step(*self.parts))
                next(self.turns)

        def meanwhile(self, drive):
            """``drive`` in a thread while the training does one turn, in which it is paused; what it said or raised."""
            said = []

            def run():
                try:
                    said.append(drive())
                except BaseException as e:
                    said.append(e)

            thread = threading.Thread(target=run)
            thread.start()
            try:
                self.turn()
            finally:
                thread.join()
            if isinstance(said[0], BaseException):
                raise said[0]
            return said[0]

        def paused(self):
            until(lambda: self.d.core.progress.paused)

        @property
        def away(self):
            return self.d.core.away

    return Training


def reference(turns):
    parts = made()
    return [step(*parts) for _ in range(turns)]


def test_paused_freed_and_put_back_the_training_ends_as_if_it_had_not_been(training, cpu):
    t = training()
    t.turn(2)
    kept = t.d.core.adapter._layers.kept
    ours = [dict(kept._room)]
    order = t.d.order(Pause(free=True, hold=True))

    def drive():
        outcome = t.d.outcome(order)
        away = t.away
        ours.append(dict(kept._room))
        refused = [t.d.outcome(t.d.order(action)) for action in (Rollback(), TakeCheckpoint())]
        knob = t.d.outcome(t.d.order(SetKnob(knob="weight_decay", op="scale", amount=1.0)))
        t.d.order(Unpause())
        return outcome, away, refused, knob

    outcome, away, refused, knob = t.meanwhile(drive)
    assert outcome.status == "applied"
    assert "paused at step 3; checkpoint 3-0.pt written and read back; " in outcome.text
    assert outcome.detail["freed"] > 0.9 * outcome.detail["moved"] > 0
    path = t.run.dir.checkpoints / "3-0.pt"
    check(path, read_sidecar(path))
    assert "flat" in torch.load(path, weights_only=True)["model"]
    assert "`sitter unpause` puts it back first" in away
    assert [(r.status, "lies in host memory" in r.text) for r in refused] == [("rejected", True)] * 2
    assert knob.status == "applied"
    assert t.away == ""
    assert [list(rooms) for rooms in (*ours, kept._room)] == [[torch.device("cpu")], [], [torch.device("cpu")]]
    t.turn(7)
    assert t.losses == reference(10)
    assert [e.paused for e in t.run.events(Paused)] == [True, False]
    assert [e.why for e in t.run.events(CheckpointWritten)] == ["pause --free"]


def test_on_a_cpu_it_is_paused_and_saved_and_says_that_there_is_nothing_to_free(training):
    t = training()
    order = t.d.order(Pause(free=True))

    def drive():
        outcome = t.d.outcome(order)
        t.d.order(Unpause())
        return outcome

    outcome = t.meanwhile(drive)
    why = "nothing was freed: nothing of the state lies on a GPU"
    assert outcome.text == f"paused at step 1; checkpoint 1-0.pt written and read back; {why}"
    assert outcome.detail["freed"] == 0


def test_a_state_of_the_scripts_own_is_paused_and_saved(begin, daemon):
    agent = begin()
    d = daemon(agent)
    model = Quadratic().known_to(agent)
    turns = agent.loop([1.0], total=10)
    next(turns)
    order = d.order(Pause(free=True))
    said = []
    thread = threading.Thread(target=lambda: (said.append(d.outcome(order)), d.order(Unpause())))
    thread.start()
    model.step(1.0)
    next(turns)
    thread.join()
    assert said[0].status == "applied"
    assert "nothing was freed: the state is the script's own" in said[0].text


def test_without_a_checkpoint_it_is_not_paused(training, cpu):
    t = training()
    t.d.core.vault._free = lambda folder: 0
    order = t.d.order(Pause(free=True, hold=True))
    t.turn()
    outcome = t.d.outcome(order)
    assert outcome.status == "rejected"
    assert outcome.text.startswith("not paused, since no checkpoint could be written first: it needs")
    assert not t.d.core.progress.paused


@pytest.mark.parametrize("slots", ["snapshots", "none"])
def test_a_host_without_room_is_told_at_once_nothing_is_copied_and_the_pause_remains(training, cpu, monkeypatch, slots):
    t = training()
    t.turn(2)
    adapter = t.d.core.adapter
    left = adapter.park()[0].nbytes + torch_parked.MARGIN - 1
    order = t.d.order(Pause(free=True, hold=True))

    def drive():
        outcome, paused = t.d.outcome(order), t.d.core.progress.paused
        t.d.order(Unpause())
        return outcome, paused

    with monkeypatch.context() as patched:
        if slots == "none":  # then the checkpoint would take a copy of its own, of more than what lies on the GPU
            patched.setattr(t.d.core.ring, "slots", 0)
            patched.setattr(adapter, "nbytes", lambda: 1 << 40)
            left = 1 << 39
        patched.setattr(torch_parked, "memory_left", lambda: left)
        patched.setattr(t.d.core.ring, "due", lambda *a: False)  # else it may be time for one of the usual snapshots
        patched.setattr(adapter, "capture", lambda *a: pytest.fail("it was copied"))
        outcome, paused = t.meanwhile(drive)
    assert paused
    assert (outcome.status, outcome.detail) == ("applied", {"freed": 0, "moved": 0})
    assert outcome.text.startswith("paused at step 3; nothing was freed, and no checkpoint was taken for it: ")
    assert "do not fit into the host's memory, of which" in outcome.text
    assert t.away == ""
    assert t.run.events(CheckpointWritten) == []
    t.turn(7)
    assert t.losses == reference(10)


def test_an_unpause_while_the_checkpoint_is_written_moves_nothing(training, cpu, monkeypatch):
    t = training()
    go = threading.Event()
    save = t.d.core.adapter.save
    monkeypatch.setattr(t.d.core.adapter, "save", lambda *a: (go.wait(60), save(*a)))
    order = t.d.order(Pause(free=True))

    def drive():
        t.paused()
        t.d.order(Unpause())
        return t.d.outcome(order)

    outcome = t.meanwhile(drive)
    go.set()
    assert (outcome.status, "before its checkpoint was written" in outcome.text) == ("rejected", True)
    t.turn()
    assert t.losses == reference(2)


def test_it_waits_for_room_on_the_gpu_and_says_so(training, cpu, monkeypatch, capsys):
    """Another process has taken the GPU's memory meanwhile."""
    monkeypatch.setattr(parking, "AGAIN_S", 0.05)
    t = training()
    order = t.d.order(Pause(free=True, hold=True))
    full = threading.Event()

    def grow(storage, n):
        if full.is_set():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        storage.resize_(n)

    def drive():
        t.d.outcome(order)
        t.agent._host.commands.parking._parked._grow = grow
        full.set()
        outcome = t.d.outcome(t.d.order(Unpause()))
        time.sleep(0.2)  # several attempts
        still = t.d.core.progress.paused, bool(t.away)
        full.clear()
        return outcome, still

    outcome, still = t.meanwhile(drive)
    assert outcome.status == "rejected"
    assert "it cannot go on yet: the GPU has no room" in outcome.text
    assert still == (True, True)
    assert not t.d.core.progress.paused
    t.turn()
    assert t.losses == reference(2)
    remarks = [e.text for e in t.run.events(Remark) if "cannot go on yet" in e.text]
    assert len(remarks) == 1
    assert "cannot go on yet" in capsys.readouterr().err


def test_the_state_comes_back_when_the_daemon_dies(training, cpu):
    t = training()
    order = t.d.order(Pause(free=True))

    def drive():
        outcome = t.d.outcome(order)
        t.d.core.pause_gives_way_s = 0.5  # before, the checkpoint may take longer than that
        t.d.close()
        return outcome

    assert t.meanwhile(drive).detail["moved"] > 0
    assert "no daemon was heard" in t.run.events(Paused)[-1].why
    t.turn()
    assert t.losses == reference(2)


@pytest.mark.parametrize("room", [True, False])
def test_a_stop_while_it_is_away_leaves_a_state_that_the_script_can_save(training, cpu, tmp_path, room):
    t = training()
    order = t.d.order(Pause(free=True, hold=True))

    def full(storage, n):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def drive():
        t.d.outcome(order)
        if not room:
            t.agent._host.commands.parking._parked._grow = full
        return t.d.outcome(t.d.order(Stop(checkpoint=True)))

    with pytest.raises(StopIteration):
        t.meanwhile(drive)
    model = t.parts[0]
    torch.save(model.state_dict(), tmp_path / "end.pt")
    saved = torch.load(t.run.dir.checkpoints / "1-0.pt", weights_only=True)["model"] if not room else model.state_dict()
    assert all(torch.equal(v, saved[k]) for k, v in model.state_dict().items())
    left = [e.text for e in t.run.events(Remark) if "left in host memory" in e.text]
    assert len(left) == (0 if room else 1)


def test_an_exception_of_the_scripts_own_handler_finds_the_state(training, cpu):
    t = training()
    order = t.d.order(Pause(free=True, hold=True))

    def drive():
        t.d.outcome(order)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)

    with raises_at(signal.SIGUSR2):
        t.meanwhile(drive)
    assert t.away == ""
    assert all(p.untyped_storage().nbytes() for p in t.parts[0].parameters())
    step(*t.parts)
    assert t.losses == reference(1)


def test_a_checkpoint_that_cannot_even_be_begun_is_refused_once_and_nobody_waits(training, cpu, monkeypatch):
    t = training(gives_way=1.0)
    t.turn(2)

    def broken(into):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(t.d.core.adapter, "capture", broken)
    order = t.d.order(Pause(free=True))
    t.turn()
    outcome = t.d.outcome(order)
    assert outcome.status == "rejected"
    assert outcome.text.startswith("not paused, since no checkpoint could be written first: RuntimeError: CUDA error")
    assert not t.d.core.progress.paused
    t.turn()
    assert [e.outcome.id for e in t.run.events(Done)] == [order]
    assert t.losses == reference(4)


def test_a_pause_that_the_scripts_own_alarm_interrupts_is_none(training, cpu, monkeypatch):
    t = training(gives_way=1.0)
    t.turn(2)

    monkeypatch.setattr(t.d.core.adapter, "capture", lambda into: signal.raise_signal(signal.SIGALRM))
    order = t.d.order(Pause(free=True))
    with raises_at(signal.SIGALRM):
        t.turn()
    assert t.d.outcome(order).status == "rejected"
    assert not t.d.core.progress.paused
    assert t.agent._host.commands.pause is None
