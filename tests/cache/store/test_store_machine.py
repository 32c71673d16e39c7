"""Any sequence of things done to stores, beside a model of them in memory: they never disagree."""

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cache import ActivationStore, plan_recording, record, verify_store
from cache.errors import CorruptFileError, FingerprintError, StoppedError
from cache.store.recording import prepare_recording
from tests.recordings import recorded

TEXTS = ["1,2,3,", "Van done in one. Car", "one", "x y z", "4,5,", "three"]
NAMES = st.sampled_from(["a.h5", "b ü.h5", "c.h5"])
N_BLOCKS = 6


class Killed(BaseException):
    """What ends a recording as abruptly as a signal: nothing of ours catches it."""


@dataclass(frozen=True)
class Known:
    """What a store should hold.

    Attributes:
        plan: which of the two plans it was made by.
        blocks: the blocks that were reported safe.
        maybe: a block that was being written when the recording was killed.
        damaged: the blocks of which a bit is turned over.
    """

    plan: int
    blocks: frozenset[int] = frozenset()
    maybe: frozenset[int] = frozenset()
    damaged: frozenset[int] = frozenset()


@pytest.fixture(scope="module")
def plans(gpt2):
    """Two plans of one block a prompt, and the arrays and rows of an uninterrupted recording of each."""
    made = [
        plan_recording(gpt2, TEXTS, sites=sites, layers="1", batch_tokens=1) for sites in ("resid_post", "z,mlp_out")
    ]
    whole = []
    with tempfile.TemporaryDirectory() as folder:
        for number, plan in enumerate(made):
            with recorded(gpt2, plan, Path(folder) / f"{number}.h5") as store:
                whole.append(({hook.name: store.load(hook) for hook in store.hooks}, store.rows))
    return gpt2, made, whole


def machine_of(gpt2, plans, whole) -> type[RuleBasedStateMachine]:
    class Stores(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.folder = Path(tempfile.mkdtemp())
            self.known: dict[str, Known] = {}

        def teardown(self) -> None:
            shutil.rmtree(self.folder)

        def recorded(self, name, plan, *, stop=None, kill=None, anew=False):
            """Record, stopping after `stop` blocks or killed at the `kill`-th write."""
            before = Known(plan) if anew or name not in self.known else self.known[name]
            done: set[int] = set()
            pending = [block for block in range(N_BLOCKS) if block not in before.blocks]
            writes = 0
            commit, pwrite = writer_methods()

            def counted(writer, content, offset):
                nonlocal writes
                writes += 1
                if writes == kill:
                    if len(content) > 8:  # a number of the log is never torn: it does not cross a sector
                        pwrite(writer, content[: len(content) // 2], offset)
                    raise Killed
                pwrite(writer, content, offset)

            def noted(writer, block, checksums):
                commit(writer, block, checksums)
                done.add(block)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("cache.sealed.writer.SealedWriter._pwrite", counted)
                patch.setattr("cache.sealed.writer.SealedWriter.commit", noted)
                with suppress(StoppedError, Killed):
                    record(
                        gpt2,
                        plans[plan],
                        self.folder / name,
                        overwrite=anew,
                        should_stop=lambda: stop is not None and len(done) >= stop,
                    )
            left = [block for block in pending if block not in done]
            maybe = frozenset(left[:1]) if kill else frozenset()
            self.known[name] = replace(before, plan=plan, blocks=before.blocks | done, maybe=maybe)

        @rule(name=NAMES, plan=st.integers(0, 1), stop=st.integers(0, 3) | st.none())
        def record_some(self, name, plan, stop):
            known = self.known.get(name)
            if known and known.plan != plan:
                with pytest.raises(FingerprintError, match="hooks"):
                    record(gpt2, plans[plan], self.folder / name)
            elif known is None or not known.damaged:
                self.recorded(name, plan, stop=stop)

        @rule(name=NAMES, plan=st.integers(0, 1), kill=st.integers(1, 25))
        def record_until_killed(self, name, plan, kill):
            known = self.known.get(name)
            if known is None or (known.plan == plan and not known.damaged):
                self.recorded(name, plan, kill=kill)

        @rule(name=NAMES, plan=st.integers(0, 1))
        def record_anew(self, name, plan):
            self.recorded(name, plan, anew=True)

        @precondition(lambda self: self.known)
        @rule(data=st.data(), to=NAMES, copied=st.booleans())
        def copy_or_rename(self, data, to, copied):
            name = data.draw(st.sampled_from(sorted(self.known)))
            if name == to:
                return
            (shutil.copyfile if copied else shutil.move)(self.folder / name, self.folder / to)
            self.known[to] = self.known[name]
            if not copied:
                del self.known[name]

        @precondition(lambda self: any(known.blocks for known in self.known.values()))
        @rule(data=st.data())
        def turn_a_bit_of_data(self, data):
            name = data.draw(st.sampled_from(sorted(n for n, known in self.known.items() if known.blocks)))
            block = data.draw(st.sampled_from(sorted(self.known[name].blocks)))
            path = self.folder / name
            with h5py.File(path, "r") as file:
                site = next(f"activations/{site}" for site in file["activations"])
                row = int(np.flatnonzero(file["log/block"][:] == block)[0])
                place = file[site].id.get_offset() + row * file[site].nbytes // len(file[site])
            content = bytearray(path.read_bytes())
            content[place] ^= 1
            path.write_bytes(content)
            self.known[name] = replace(self.known[name], damaged=self.known[name].damaged ^ {block})

        @precondition(lambda self: any(not known.damaged for known in self.known.values()))
        @rule(data=st.data(), seed=st.integers(0, 99))
        def read_a_part(self, data, seed):
            name = data.draw(st.sampled_from(sorted(n for n, known in self.known.items() if not known.damaged)))
            with ActivationStore.open(self.folder / name) as store:
                mask = np.random.default_rng(seed).random(len(store.rows)) < 0.5
                arrays, rows = whole[self.known[name].plan]
                shown = rows["prompt"].isin(set(store.rows["prompt"])).to_numpy()
                for hook in store.hooks:
                    assert torch.equal(store.load(hook, mask), arrays[hook.name][shown][torch.from_numpy(mask)])

        @invariant()
        def every_store_is_what_is_known_of_it(self):
            names = {path.name for path in self.folder.iterdir()}
            assert {name for name in names if name.endswith(".h5")} == set(self.known)
            for name, known in self.known.items():
                path = self.folder / name
                verification = verify_store(path)
                assert {damage.block for damage in verification.damage} == known.damaged
                assert verification.n_blocks == N_BLOCKS
                assert len(known.blocks) <= verification.n_committed <= len(known.blocks | known.maybe)
                if known.damaged:
                    with pytest.raises(CorruptFileError, match="is not what was written"):
                        load_all(path)
                    continue
                with ActivationStore.open(path) as store:
                    arrays, rows = whole[known.plan]
                    order = [prompt for block in plans[known.plan].blocks for prompt in block]
                    assert {order[block] for block in known.blocks} <= set(store.rows["prompt"])
                    shown = rows["prompt"].isin(set(store.rows["prompt"])).to_numpy()
                    assert store.rows["token"].tolist() == rows["token"][shown].tolist()
                    for hook in store.hooks:
                        assert torch.equal(store.load(hook), arrays[hook.name][shown])
                    assert store.complete == (verification.n_committed == N_BLOCKS)
                state = prepare_recording(gpt2, plans[known.plan], path)
                assert state.n_pending == N_BLOCKS - verification.n_committed

    return Stores


def load_all(path: Path) -> None:
    with ActivationStore.open(path) as store:
        for hook in store.hooks:
            store.load(hook)


def writer_methods():
    from cache.sealed.writer import SealedWriter

    return SealedWriter.commit, SealedWriter._pwrite


@pytest.mark.parametrize(
    ("examples", "steps"), [(3, 12), pytest.param(100, 30, marks=[pytest.mark.slow, pytest.mark.timeout(6000)])]
)
def test_stores_and_their_model_never_disagree(plans, examples, steps):
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine_of(*plans), settings=chosen)
