"""A server: the rules of ``consensus.py``, driven by real connections, a disk and a clock.

Theory of operation. One task runs the turns, and only it touches the state. Tasks that read connections put what they hear into the
inbox, a channel of bounded length: where more comes in than the turns can handle, the others wait to be read. A turn takes all that
is there, so that a hundred commands cost one sync of the disk. The turns never wait for a connection: answers and messages are put
into channels too, and dropped where one is full.

    connections ──► inbox ──► turn: hear · decide · save · speak · apply · settle ──► answers, links

What a client may ask (``Ask.verb``, with its arguments):

    open                          a session: its number
    do       (a Command)          change the store, once: the command's result
    get      key                  the value now (or null), without the log
    add      id, address          make a server a member
    remove   id                   make a member none
    status                        what this very server is and knows; the only question that is not the leader's
"""

from __future__ import annotations

import logging
from typing import Any

import bateau
from bateau import net
from bateau.channel import Receiver, Sender, channel

from .consensus import Consensus, NotLeader, NotNow, Read, Role, Timing
from .link import Heard, Link, split_address
from .log import Entry
from .machine import Expired, Machine, check_command
from .messages import Answer, Append, AppendReply, Ask, Connection, Hello, Message, ProtocolError, Vote, VoteReply
from .storage import Batch, Storage, open_storage

log = logging.getLogger("raft")

INBOX = 256  # messages that wait for a turn
ANSWERS = 64  # answers that wait for a connection
IDLE = 60.0  # seconds after which a connection that says nothing is closed


class Question:
    """A client's question, until it is answered."""

    __slots__ = ("_answers", "ask")

    def __init__(self, ask: Ask, answers: Sender[Message]) -> None:
        self.ask = ask
        self._answers = answers

    def answer(self, status: str, value: Any = None) -> None:
        """Say it, unless nobody listens any more."""
        say(self._answers, Answer(self.ask.number, status, value))


def say(answers: Sender[Message], message: Message) -> None:
    """Put ``message`` on its way. A connection that has ended, or takes no more, is its asker's loss: it will ask again."""
    try:
        answers.try_send(message)
    except OSError as error:  # closed, broken, or full
        log.debug("an answer was dropped: %s", error)


class Node:
    """One server of the cluster.

    Invariants: ``machine`` has applied a prefix of the log, never beyond ``consensus.commit``. A question stands in exactly one of
    ``_proposed``, ``_reading`` and ``_changing`` until it is answered, and only while this node leads.
    """

    make_consensus = Consensus

    def __init__(
        self,
        id: str,
        address: str,
        directory: str,
        members: dict[str, str] | None = None,
        timing: Timing = Timing(),  # noqa: B008  # it is immutable
    ) -> None:
        """``members`` are the first ones, the same at each of them; None for a server that will be added. A directory that
        is in use already knows better.
        """
        self.id = id
        self.address = address
        self.directory = directory
        self.first_members = members
        self.timing = timing
        self.machine = Machine()
        self.running = False  # whether the disk was read: there is a consensus from then on
        self.consensus: Consensus
        self._heard_tx, self._heard = channel[Heard](INBOX, name=f"inbox of {id}")
        self._replies: list[tuple[Sender[Message], Message]] = []  # to be said when the turn is saved
        self._links: dict[str, Link] = {}
        self._link_tasks: dict[str, bateau.Task[None]] = {}
        self._proposed: dict[int, tuple[int, Question]] = {}  # index: the term, who waits for it
        self._reading: list[tuple[Read, Question]] = []
        self._changing: list[Question] = []

    async def run(self) -> None:
        """Serve until cancelled. Raises ``OSError`` if the address can't be had or the disk fails, ``Damaged``, ``Diverged``."""
        # First the address: who has it has the directory as well, so no two processes ever write the same journal.
        async with await net.listen_tcp(*split_address(self.address)) as listener:
            async with await open_storage(self.directory) as storage, self._heard_tx, self._heard:
                self.consensus = self.new_consensus(storage)
                self.running = True
                log.info("%s: listening on %s, %s", self.id, self.address, storage.log)
                async with bateau.scope(name=f"raft node {self.id}") as scope:
                    scope.spawn(net.serve, self._converse, listener, background=True)
                    await self._turns(storage, scope)

    def new_consensus(self, storage: Storage) -> Consensus:
        """What the disk remembers, as a follower."""
        if not storage.log.last and not storage.term and self.first_members:
            storage.log.append(Entry(0, "members", self.first_members))
        return self.make_consensus(self.id, storage.term, storage.vote, storage.log, self.timing, bateau.now())

    # -- turns -------------------------------------------------------------------------------------------------------------

    async def _turns(self, storage: Storage, scope: bateau.Scope) -> None:
        consensus = self.consensus
        while True:
            await self._hear()
            consensus.tick()
            consensus.flush()
            if (batch := consensus.unsaved()) is not None:
                await self.save(storage, batch)
                consensus.saved()
            self._follow_peers(scope)
            self._speak()
            self._apply()
            self._settle()

    async def save(self, storage: Storage, batch: Batch) -> None:
        """Put ``batch`` on the disk."""
        await storage.save(batch)

    async def _hear(self) -> None:
        """Wait until something has come in or is due, and hand over all that has come."""
        wait = max(0.0, self.consensus.deadline - bateau.now())
        heard: list[Heard] = []
        with bateau.move_on_after(wait):
            heard.append(await self._heard.recv())
        while len(self._heard) and len(heard) < INBOX:
            heard.append(self._heard.try_recv())
        self.consensus.now = bateau.now()
        for one in heard:
            self._decide(one.message, one.answers)

    def _decide(self, message: Message, answers: Sender[Message] | None) -> None:
        consensus = self.consensus
        if isinstance(message, AppendReply):
            consensus.on_append_reply(message)
        elif isinstance(message, VoteReply):
            consensus.on_vote_reply(message)
        elif answers is not None:
            if isinstance(message, Append):
                self._replies.append((answers, consensus.on_append(message)))
            elif isinstance(message, Vote):
                self._replies.append((answers, consensus.on_vote(message)))
            elif isinstance(message, Ask):
                self._decide_question(Question(message, answers))

    def _speak(self) -> None:
        """All that was decided is on the disk: say it."""
        for answers, reply in self._replies:
            say(answers, reply)
        self._replies.clear()
        for peer, message in self.consensus.outbox:
            if peer in self._links:
                self._links[peer].send(message)
        self.consensus.outbox.clear()

    def _apply(self) -> None:
        """Apply what is committed, and answer who waits for it."""
        for index in range(self.machine.applied + 1, self.consensus.commit + 1):
            entry = self.consensus.log[index]
            term, question = self._proposed.pop(index, (0, None))
            status = "ok"
            try:
                result = self.machine.apply(index, entry)
            except Expired as error:
                status, result = "expired", str(error)
            if question is not None:
                # Another term: another leader's entry came to stand there, and the one that was proposed is lost.
                if entry.term != term:
                    status, result = "again", None
                question.answer(status, result)

    # -- questions ---------------------------------------------------------------------------------------------------------

    def _decide_question(self, question: Question) -> None:
        verb, arguments = question.ask.verb, question.ask.arguments
        try:
            if verb == "status":
                question.answer("ok", self.status())
            elif verb == "open" and not arguments:
                self._propose("session", None, question)
            elif verb == "do":
                check_command(arguments)
                self._propose("command", arguments, question)
            elif verb == "get" and len(arguments) == 1 and type(arguments[0]) is str:
                self._reading.append((self.consensus.read(), question))
            elif verb in ("add", "remove"):
                self._change(verb, *arguments)
                self._changing.append(question)
            else:
                raise ValueError(f"{verb!r} with {arguments!r} is no question")
        except NotLeader:
            question.answer("moved", self._leader_address())
        except NotNow as error:
            question.answer("again", str(error))
        except (ValueError, TypeError) as error:
            question.answer("error", str(error))

    def _propose(self, kind: str, body: object, question: Question) -> None:
        index = self.consensus.propose(kind, body)
        self._proposed[index] = self.consensus.term, question

    def _change(self, verb: str, id: str, address: str = "") -> None:
        """Raises ``TypeError``, ``ValueError`` for bad arguments."""
        if type(id) is not str or not id or type(address) is not str:
            raise ValueError("a server's id and address are strings")
        if verb == "add":
            split_address(address)
            self.consensus.add_member(id, address)
        else:
            self.consensus.remove_member(id)

    def _settle(self) -> None:
        """Answer the questions that can be answered now, and all of them when this node does not lead any more."""
        if self._changing and self.consensus.commit >= self.consensus.log.members_index:
            changing, self._changing = self._changing, []
            for question in changing:
                self._settle_change(question)
        if self.consensus.role is not Role.LEADER:  # perhaps because the change was its own removal
            self._give_up()
            return
        reading, self._reading = self._reading, []
        for read, question in reading:
            try:
                if self.machine.applied >= read.needs and self.may_answer(read):
                    question.answer("ok", self.machine.values.get(question.ask.arguments[0]))
                else:
                    self._reading.append((read, question))
            except NotLeader:
                question.answer("again")

    def may_answer(self, read: Read) -> bool:
        """Whether the state is as new as ``read`` needs it. Raises ``NotLeader``."""
        return self.consensus.may_answer(read)

    def _settle_change(self, question: Question) -> None:
        """No change is half done: is this one?"""
        id = question.ask.arguments[0]
        learner = self.consensus.learner
        if learner is not None and learner.id == id:
            self._changing.append(question)
        elif (id in self.consensus.log.members) == (question.ask.verb == "add"):
            question.answer("ok")
        else:
            question.answer("again", f"{id} did not catch up with the log in time")

    def _give_up(self) -> None:
        """Another one leads. What was proposed here may be committed all the same, which is why commands have numbers."""
        questions = [question for _, question in self._proposed.values()]
        questions += [question for _, question in self._reading]
        questions += self._changing
        self._proposed.clear()
        self._reading.clear()
        self._changing.clear()
        for question in questions:
            question.answer("again")

    def _leader_address(self) -> str:
        return self.consensus.log.members.get(self.consensus.leader or "", "")

    def status(self) -> dict[str, Any]:
        """What this server is and knows, for people and tests. ``digest`` is that of the entries up to ``applied``."""
        consensus = self.consensus
        return {
            "id": self.id,
            "role": consensus.role.value,
            "term": consensus.term,
            "leader": consensus.leader,
            "last": consensus.log.last,
            "commit": consensus.commit,
            "applied": self.machine.applied,
            "digest": self.machine.digest,
            "members": consensus.log.members,
        }

    # -- connections -------------------------------------------------------------------------------------------------------

    async def _converse(self, stream: net.SocketStream) -> None:
        """One connection that somebody has made to us: a node's or a client's."""
        answers, outgoing = channel[Message](ANSWERS, name=f"answers to {stream.peer}")
        try:
            async with answers, bateau.scope(name="conversation") as scope:
                connection = Connection(stream)
                scope.spawn(self._send_answers, connection, outgoing, background=True)
                await self._listen(connection, answers)
        except* (OSError, ProtocolError) as errors:
            log.debug("%s: connection from %s ended: %s", self.id, stream.peer, errors.exceptions[0])

    async def _listen(self, connection: Connection, answers: Sender[Message]) -> None:
        with self._heard_tx.clone() as heard:
            while True:
                with bateau.timeout(IDLE):
                    message = await connection.receive()
                if message is None:
                    return
                if isinstance(message, Hello):
                    if message.receiver != self.id:
                        raise ProtocolError(
                            f"{message.sender} looks for {message.receiver} here, and this is {self.id}"
                        )
                elif isinstance(message, Append | Vote | Ask):
                    await heard.send(Heard(message, answers))
                else:
                    raise ProtocolError(f"{type(message).__name__} answers no question")

    async def _send_answers(self, connection: Connection, outgoing: Receiver[Message]) -> None:
        async with outgoing:
            async for message in outgoing:
                await connection.send(message)

    def _follow_peers(self, scope: bateau.Scope) -> None:
        """Keep a link to each peer, and none to others."""
        peers = self.consensus.peers
        for peer, link in tuple(self._links.items()):
            if peers.get(peer) != link.address:
                del self._links[peer]
                self._link_tasks.pop(peer).cancel("it is no peer any more")
        for peer, address in peers.items():
            if peer not in self._links:
                link = Link(self.id, peer, address, self._heard_tx, 2 * self.timing.election)
                self._links[peer] = link
                self._link_tasks[peer] = scope.spawn(link.run, name=f"link to {peer}", background=True)
