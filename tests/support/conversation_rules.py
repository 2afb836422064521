"""The rules that every state machine over a `Conversation` has."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from support.conversation import Conversation


class ConversationRules(RuleBasedStateMachine):
    """Each load is answered once."""

    def __init__(self, talk: Conversation) -> None:
        super().__init__()
        self.talk = talk
        self.loads_answered = 0

    @precondition(lambda self: self.talk.loads > self.loads_answered)
    @rule(works=st.booleans())
    def answer_load(self, works: bool) -> None:
        self.loads_answered += 1
        if works:
            self.talk.load()
        else:
            self.talk.fail_load()
