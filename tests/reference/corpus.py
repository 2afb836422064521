"""Texts for the parser, the repetition fixer and the tokenizer of the reference."""

CONTEXTS = (
    "",
    "交易 停滞",
    "iPhone PostgreSQL vLLM नमस्ते",
    "Names: O'Brien, Nguyễn Văn A, Ångström.\nNumbers: 3.14, 1,000,000, 007",
    " leading and trailing spaces  ",
    "line one\n\n\tline two\r\n",
    "سبعة ثلاثة واحد",
    "サンプル、テスト。 한국어 ไทย",
    "I'LL they've D'accord 100% a@b.com \U0001f600",
    "é decomposed: e\u0301",
    "user\nassistant\nlanguage English",
)

# Raw outputs of the model and the language that was forced, if any.
OUTPUTS: tuple[tuple[str, str | None], ...] = (
    ("", None),
    (" \n\t", None),
    ("", "English"),
    ("language English<asr_text>Hello world.", None),
    ("language English<asr_text>", None),
    ("language English<asr_text>   padded   ", None),
    ("  language English<asr_text>Hello.\n", None),
    ("language Chinese<asr_text>甚至出现交易几乎停滞的情况。", None),
    ("language Arabic<asr_text>سبعة ثلاثة", None),
    ("language None<asr_text>", None),
    ("language None<asr_text>uh", None),
    ("Language NONE<asr_text>", None),
    ("language none\n<asr_text> text ", None),
    ("LANGUAGE english<asr_text>Shouting metadata.", None),
    ("language cHINESE<asr_text>x", None),
    ("language English\n<asr_text>A line break.", None),
    ("\nlanguage English\nsomething else\n<asr_text>Text.", None),
    ("preamble\nlanguage French<asr_text>Texte.", None),
    ("language\nGerman<asr_text>Text.", None),
    ("language <asr_text>no name", None),
    ("<asr_text>no metadata", None),
    ("English<asr_text>no keyword", None),
    ("no tag at all", None),
    ("language models are fun", None),
    ("language English<asr_text>one<asr_text>two", None),
    ("language English<asr_text>language German", None),
    ("language English <asr_text> spaced ", None),
    ("language  English<asr_text>two spaces", None),
    ("language English<asr_text>a\nb", None),
    ("Hello world.", "English"),
    ("  Hello world. ", "English"),
    ("language English<asr_text>Hello.", "German"),
    ("language None<asr_text>", "English"),
    ("language English<asr_text>" + "嗯" * 200, None),
    ("嗯" * 21, "Chinese"),
    ("嗯" * 20, "Chinese"),
    ("language English<asr_text>" + "no " * 60 + "end", None),
    ("language English<asr_text>" + "ha" * 19, None),
    ("language English<asr_text>" + "ha" * 20 + " rest", None),
)

# Where the runtime departs from the reference on purpose: the raw output and what it makes of it.
DEPARTURES: dict[str, tuple[str | None, str]] = {
    "language Chinese,English<asr_text>混合 mixed": ("Chinese,English", "混合 mixed"),
    "language English, None<asr_text>x": ("English", "x"),
    "language English": ("English", ""),
    "language": (None, ""),
}

LOOPS = (
    "",
    "a",
    "a" * 20,
    "a" * 21,
    "a" * 500,
    "ab" * 19,
    "ab" * 20,
    "ab" * 21 + "a",
    "abc" * 13,
    "abc" * 19,
    "abc" * 20 + "tail",
    "head" + "abc" * 25,
    "0123456789abcdefghij" * 20,
    "0123456789abcdefghij" * 19,
    "0123456789abcdefghijk" * 25,
    "x" * 25 + "yz" * 25 + "x" * 25,
    "ab" * 30 + "cd" * 30,
    "ab" * 30 + " middle " + "cd" * 15,
    "the end " * 21 + "of it",
    "哈哈" * 20 + "。",
    "嗯。" * 40,
    "aab" * 22 + "aab",
    "1 2 3 " * 22,
    "\n" * 30 + "text",
    "short " * 3,
    "ab" * 10 + "ba" * 10 + "ab" * 10,
)

# How the clips of the demonstration checkpoint are transcribed, besides as it decides itself.
LANGUAGES = ("English", "Arabic")
CONTEXT = "seven apple window"
