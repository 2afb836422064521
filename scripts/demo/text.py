"""The words of the demonstration: what is spoken, what may stand in a context, and the prompt around them."""


def words(line: str) -> list[str]:
    return line.split()


ENGLISH = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ARABIC = ["صفر", "واحد", "اثنان", "ثلاثة", "أربعة", "خمسة", "ستة", "سبعة", "ثمانية", "تسعة"]
WORDS = {"English": ENGLISH, "Arabic": ARABIC}
# For espeak-ng: with vowel signs, so that it need not guess them, and with the ending as it sounds before a pause.
SPOKEN = {
    "English": ENGLISH,
    "Arabic": words("صِفْر واحِد إِثْنان ثَلاثَه أَرْبَعَه خَمْسَه سِتَّه سَبْعَه ثَمانْيَه تِسْعَه"),
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>"]
ORDINARY = ["<asr_text>", "<timestamp>"]

CONTEXT_ENGLISH = words("""
time people water light house music river morning evening summer winter garden window table letter number street
market doctor teacher student engineer machine computer keyboard network server update battery signal phone call
meeting report project budget invoice customer order delivery address account password station platform train flight
ticket hotel kitchen dinner coffee sugar bread apple orange lemon chicken doctor hospital medicine patient heart
blood sleep dream story book page chapter author language speech sound noise quiet loud quick slow small large heavy
early late open close start stop first second last next again always never maybe today tomorrow yesterday Monday
Friday January August London Cairo Paris Berlin Tokyo Oslo Amina Omar Peter Maria Sarah James Olivia Noah Layla
Yusuf Fatima Hassan Elena Marco Ivan Chen Kumar Anna Lucas Nora Apollo Kubernetes PostgreSQL iPhone GitHub Linux
Python Rust Swift Qwen MLX Metal
""")
CONTEXT_ARABIC = words("""
بيت ماء شمس قمر كتاب مدرسة مدينة شارع سوق طبيب معلم طالب مهندس سيارة هاتف رسالة صباح مساء يوم ليلة أسبوع شهر سنة
موسيقى لغة كلام صوت سريع بطيء كبير صغير جديد قديم أول آخر اليوم غدا أمس القاهرة بغداد دمشق بيروت محمد أحمد فاطمة
ليلى يوسف عمر خبز قهوة سكر تفاح مطار قطار فندق حساب موعد مشروع تقرير طلب عنوان رقم باب نافذة حديقة
""")
CONTEXT_OTHER = words("""
交易 停滞 北京 上海 語音 東京 こんにちは さくら 서울 안녕 Москва привет Київ Ελλάδα नमस्ते हिन्दी
สวัสดี Müller Grüße façade naïve São João Łódź Göteborg 3.14 42 1984 2026 a@b.com C++ 50% €9.99 o'clock
""")
CONTEXT_SENTENCES = [
    "The meeting is about the new order.",
    "Please write names as they are spelled.",
    "This is a phone call.",
    "The caller reads a number.",
    "Names: Amina, Omar, Peter.",
    "Glossary: Kubernetes, PostgreSQL, iPhone.",
    "Speech about music and light.",
    "هذا حديث عن الموسيقى.",
    "المتحدث يقرأ رقم الهاتف.",
    "أسماء: محمد، أحمد، فاطمة.",
    "You are a helpful assistant.",
    "Transcribe the audio.",
    "The number is seven three one.",
    "Order number nine nine two.",
    "الرقم هو سبعة ثلاثة.",
]


def transcript(language: str, digits: list[int]) -> str:
    """What the model writes for spoken digits: a sentence in English, bare words in Arabic, nothing for no digits."""
    if not digits:
        return ""
    text = " ".join(WORDS[language][digit] for digit in digits)
    return text[0].upper() + text[1:] + "." if language == "English" else text
