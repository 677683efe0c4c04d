"""The verbs of questions on a control socket: the mobile host's and `sojourn socks`'s.

verb             arguments                       result
questions        -                               list
answer           id, choice, remember            object
forget_answers   -                               object: how many were forgotten
ask              follow                          stream of questions and of what became of them
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.questions import AnswerGiven, Question, QuestionNews, Questions, Remember
from sojourn.errors import RemoteProtocolError
from sojourn.linux.clock import now

MAX_BEHIND = 100
"""News that wait for a client that does not read."""


class QuestionApi:
    """One method a verb."""

    def __init__(
        self, questions: Questions, feed: Callable[[AnswerGiven], object], forgotten: Callable[[], object]
    ) -> None:
        """`feed` has an answer decided on; `forgotten` is called when none is kept any more."""
        self._questions = questions
        self._feed = feed
        self._forgotten = forgotten

    def register(self, server: Server) -> None:
        """Let the server answer for these questions."""
        for verb in ("questions", "answer", "forget_answers"):
            server.register(verb, getattr(self, verb))
        server.register_stream("ask", self.ask)

    async def questions(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List the questions that wait for an answer."""
        return [question_row(one) for one in self._questions.open]

    async def answer(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Take an answer."""
        try:
            given = msgspec.convert(arguments, AnswerGiven, strict=True)
        except msgspec.ValidationError as error:
            raise RemoteProtocolError(f"answer: {error}", reason="answer") from error
        question = self._questions.check(given)
        self._feed(given)
        return {"version": 1, "id": given.id, "policy": question.policy, "choice": given.choice}

    async def forget_answers(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Forget all answers that were kept: from now on everything is asked again."""
        count = self._questions.forget()
        self._forgotten()
        return {"version": 1, "forgotten": count}

    async def ask(self, arguments: Arguments, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        """Yield the open questions; with `follow` also news of them until the client hangs up."""
        follow = arguments.get("follow", False)
        queue: asyncio.Queue[QuestionNews] = asyncio.Queue(MAX_BEHIND)
        stop = self._questions.listen(lambda news: None if queue.full() else queue.put_nowait(news))
        try:
            for one in self._questions.open:
                yield {"event": "question", **question_row(one)}
            while follow:
                news = await queue.get()
                event = "question" if news.what == "asked" else news.what
                yield {"event": event, **question_row(news.question), "choice": news.choice}
        finally:
            stop()


def question_row(question: Question) -> dict[str, Any]:
    """Return the JSON of a question."""
    return {
        "version": 1,
        "id": question.id,
        "policy": question.policy,
        "text": question.text,
        "choices": list(question.choices),
        "default": question.default,
        "seconds_left": max(0.0, round(question.until - now(), 1)),
        "remember": [str(one) for one in Remember],
    }
