"""Mistakes that are easy to make in Raft, each as the smallest change that makes it. ``check.py`` must find them; nobody else uses them."""

from __future__ import annotations

from .consensus import Consensus, NotNow, Read
from .messages import Append, AppendReply
from .node import Node
from .storage import Batch, Storage, encode_batch


class ForgetsItsVote(Consensus):
    """The term and the vote come to the disk together with the next entry: after a crash another vote may be given in the same term."""

    def unsaved(self) -> Batch | None:
        return super().unsaved() if self.log.changed_from is not None else None


class CountsReplicas(Consensus):
    """An entry of an earlier term is committed because a majority has it (figure 8 of the Raft paper)."""

    def _may_commit(self, index: int) -> bool:
        return True


class CutsAlways(Consensus):
    """A follower takes a leader's message for the leader's whole log, though it may be an old message."""

    def on_append(self, asked: Append) -> AppendReply:
        if asked.term >= self.term and self.log.matches(asked.previous, asked.previous_term):
            self.log.cut(asked.previous + 1)
        return super().on_append(asked)


class ChangesAtOnce(Consensus):
    """A new leader changes the members before it has committed anything: the flaw that was found in 2015."""

    def _check_may_change(self) -> None:
        if self.learner is not None or self.log.members_index > self.commit:
            raise NotNow("another change of the members is under way")


class ReadsItsOwnState(Node):
    """A leader answers reads without asking whether it still is the leader."""

    def may_answer(self, read: Read) -> bool:
        return True


class AnswersBeforeSync(Node):
    """What is acknowledged has been written, and not synced."""

    async def save(self, storage: Storage, batch: Batch) -> None:
        data = encode_batch(batch, storage._end)
        await storage._file.write(data)
        await storage._file.flush()
        storage._end += len(data)


class ExecutesTwice(Node):
    """A command that is asked again is executed again."""

    def _apply(self) -> None:
        for session in self.machine._sessions.values():
            session.number = 0
        super()._apply()


MISTAKES: dict[str, type[Consensus | Node]] = {
    "forgets-its-vote": ForgetsItsVote,
    "counts-replicas": CountsReplicas,
    "cuts-always": CutsAlways,
    "changes-at-once": ChangesAtOnce,
    "reads-its-own-state": ReadsItsOwnState,
    "answers-before-sync": AnswersBeforeSync,
    "executes-twice": ExecutesTwice,
}


def with_mistake(name: str | None) -> type[Node]:
    """A node that makes the mistake; the right one for None."""
    mistake = MISTAKES[name] if name is not None else Node
    if issubclass(mistake, Node):
        return mistake

    assert issubclass(mistake, Consensus)
    rules: type[Consensus] = mistake

    class Mistaken(Node):
        make_consensus = rules

    return Mistaken
