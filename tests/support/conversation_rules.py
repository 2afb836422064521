"""The rules that every state machine over a `Conversation` has."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from support.conversation import Conversation

from qwen3_asr_mlx_runtime.session.model_state import MAX_ENDS


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

    @precondition(lambda self: self.talk.is_unloading)
    @rule()
    def unloaded(self) -> None:
        """Whatever it did: also a load that was not answered never is."""
        before = self.talk.loads
        self.talk.unloaded()
        self.loads_answered = before

    @precondition(lambda self: self.talk.session._state.recovery.attempt < MAX_ENDS - 1)
    @rule()
    def end_engine(self) -> None:
        """A load that was not answered never is; the next may have begun."""
        before = self.talk.loads
        self.talk.end_engine()
        self.loads_answered = before
