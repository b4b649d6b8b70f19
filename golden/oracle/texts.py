"""The texts of specs/tokenizers."""

ASCII = [
    "", "a", " ", " a", "a ", "Hello", "Hello.", "Hello world", "Hello, world!", " Hello  world ",
    "The White Rabbit", "the the the", "aaaaaaaa", "ABCDEFG", "abcABCabc", "snake_case_name",
    "camelCaseName", "kebab-case-name", "HTTPServer", "x=y+z", "a.b.c.d", "e.g. this, i.e. that",
    "https://example.org/a?b=c&d=e#f", "user@example.org", "C:\\path\\file.txt", "$100 & 50%",
    "~`!@#$%^&*()_-+={}[]|:;'<>,.?/", "\"quoted\" 'single'", "(a (b (c)))", "--- ===",
]
SHORT_FORMS = [
    "don't", "Don't", "DON'T", "we've we'll we're", "I'm he'd it's", "IT'S", "'s", "'S x", " 't",
    "'tis", "rock'n'roll", "o'clock", "y'all'd've", "''ll", "they're'", "don’t", "It'Sx", "'ſ",
    "THEY'REthere", "a's b'S",
]
DIGITS = [
    "0", "12", "123", "1234", "12345", "123456", "1234567", " 1", " 1234", "1 2 3", "3.14159",
    "1,234,567", "2024-11-21", "12:30:59", "007", "1e10", "0xFF", "a1b2c3", "1st 2nd", "v1.2.3",
    "٣٤٥٦", "१२३४", "一二三四", "Ⅷ Ⅻ", "½ ⅓ ²³", "１２３４", "100%", "-42", "+1 (555) 010-9999",
]
SPACES = [
    "  ", "   ", "    ", "\t", "\t\t", " \t ", "a  b", "a   b", "a\tb", "a \tb", "\xa0", "a\xa0b",
    "a \xa0 b", "\u2003em\u2003", "\u3000全角\u3000", "\u2028", "a\u2028b", "\u1680x", "\x85",
    "a\x85b", " \u200b ", "\x0b\x0c", "a ", "a  ", " a  ", "word      word", "\u205f\u202f",
    "    indented", "\tdef f():", "x\xa0\xa0y",
]
LINES = [
    "a/\n/\nb", "x/\n/\n/\n",
    "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r", "a\nb", "a\n\nb", "a\r\nb", " \n", "\n ",
    "\n  a", "a \n b", "a\n \nb", "  \n  \n  ", "x\n\n\n\ny", "a;\n", "a;\n\n", "}\n\n}\n",
    "!\n?", "/\n/", "//\n", "...\r\n...", "\t\n\t\n", "line one\nline two\n", "\n\r\n\r",
    "a\n\t b", "end.\n",
]
SCRIPTS = [
    "Tous les êtres humains", "Würde und Rechten", "dignité et en droits", "rodzą się wolni",
    "Tất cả mọi người", "Bütün insanlar", "Все люди рождаются", "свободными и равными",
    "Όλοι οι άνθρωποι", "Բոլոր մարդիկ", "ყველა ადამიანი", "人人生而自由", "在尊严和权利上一律平等。", "すべての人間は",
    "カタカナ ひらがな", "모든 인간은 태어날 때부터", "सभ\u0940 मन\u0941ष\u094dय\u094b\u0902 क\u094b",
    "সমস\u09cdত ম\u09beন\u09c1ষ", "மன\u0bbfதர\u0bcd ய\u0bbeவர\u0bc1ம\u0bcd",
    "มน\u0e38ษย\u0e4cท\u0e31\u0e49งหลาย", "يولد جميع الناس", "כל בני האדם", "تمام انسان", "አማርኛ",
    "ᏣᎳᎩ", "ខ\u17d2ម\u17c2រ", "ລາວ", "မ\u103cန\u103aမ\u102c", "བ\u0f7cད་ཡ\u0f72ག", "ᠮᠣᠩᠭᠣᠯ",
    "ქართული ენა", "𐌰𐌱𐌲", "𒀀𒀁", "Ǆǅǆ", "ﬀ ﬁ", "ß ẞ", "İı", "naïve café", "mixed Кирилл日本 text",
    "ΑΒΓαβγ",
]
MARKS = [
    "e\u0301", "cafe\u0301", "é", "A\u030a", "\u212b", "o\u0302\u0323", "o\u0323\u0302", "ộ",
    "n\u0303", "\u0301alone", "a\u0301\u0301", "한", "한", "क\u093c", "\u0958", "x\u0338",
    "\u2126", "e\u0327\u0301", "q\u0323\u0307", "E\u0301COLE e\u0301cole",
]
EMOJI = [
    "😀", "😀😃", " 😀", "😀 ", "a😀b", "👍🏽", "👍👍🏽👍🏿", "👨\u200d👩\u200d👧\u200d👦", "🧑🏽\u200d🚀", "🇫🇷",
    "🇫🇷🇩🇪🇯🇵", "❤\ufe0f", "❤", "☎\ufe0f", "1\ufe0f\u20e3", "#\ufe0f\u20e3",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🏳\ufe0f\u200d🌈", "🎉🎉🎉!!!",
    "✨ sparkle ✨", "(╯°□°)╯︵ ┻━┻", "¯\\_(ツ)_/¯", "♠♥♦♣", "→←↑↓", "🫠\U0001fae8",
    "👩🏿\u200d❤\ufe0f\u200d💋\u200d👨🏻", "🀄🃏", "text😀text", "😀\n😀", "👁\ufe0f\u200d🗨\ufe0f",
]
UNSEEN = [
    "\u200b", "a\u200bb", "a\u200cb", "a\u200db", "\ufeff", "\ufeffHello", "a\xadb",
    "\u202eabc\u202c", "\u2066a\u2069", "\u200e\u200f", "\u2060", "\x00", "a\x00b",
    "\x01\x02\x03", "\x7f", "\x80\x9f", "�", "a�b", "\ufffe", "\U0010ffff", "\ue000",
    "\U000e0001", "\u061c", "\u180e", "᭛",
]
CODE = [
    "fn main() {}", "let x = vec![1, 2, 3];", "    for i in 0..10 {\n",
    "def add(a, b):\n\treturn a + b\n", "if (a == b && c != d)", "println!(\"{} {}\", i, x[i]);",
    "<html><body class=\"x\">", "&amp;&lt;", "{\"key\": [1, 2.5, null]}", "// comment", "/* a */",
    "#include <stdio.h>", "a->b::c", "x += 1;", "SELECT * FROM t WHERE a = 'b';", "\\n\\t\\\\",
    "$(cmd) `cmd`", "{{ template }}", "[[1,2],[3,4]]", "^[a-z]+$", "==>", "!==", "/usr/bin/env",
    "-rw-r--r--",
]
NOT_UTF8 = [
    b"\xff", b"\xff\xfeA", b"A\xff", b"\x80", b"\x80\x81\x82", b"\xc3", b"a\xc3", b"\xc3(",
    b"\xe2\x82", b"\xe2\x82A", b"\xe2(\xa1", b"\xf0\x9f\x98", b"\xf0\x9f\x98 \xf0\x9f\x98\x80",
    b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"Hello\xfeworld",
    b" \xff ", b"\xff\n\xff", b"caf\xe9", b"\xe3\x81\x82\xe3\x81", bytes(range(128, 256)),
]
LONG = [
    "a" * 300, "ab" * 200, " " * 300 + "x", "the" * 150, "1" * 301, "\n" * 200, "é" * 150,
    "人" * 120, "😀" * 60, "!" * 257, "Hello world. " * 20, "aA" * 100,
]
INJECTED = [
    "<|endoftext|>", "a<|endoftext|>b", "<|begin_of_text|>", "<|eot_id|>", "<|im_start|>user\n",
    "<|im_end|>", "<|start|>", "<|return|>", "<|end|>", "<|endoftext", "|endoftext|>",
    "<|endoftext|><|endoftext|>", " <|endoftext|> ", "<|unknown|>", "<s></s>", "[INST]",
    "<|end_of_text|>\n", "<|ENDOFTEXT|>", "<|own|>", "x<|own|><|im_end|>",
]
ADDED = [
    "", "Hello", " Hello", "Hello world.", "\n", "é", "😀", "don't", "123", "<|endoftext|>",
    "<|begin_of_text|>Hello",
]
EVERY = [bytes([b]) for b in range(128)]
HALVES = [bytes([b]) for b in range(128, 256)]

# Case, why, special tokens, texts.
CASES = [
    ("ascii", "words, names and signs of plain English text", "none", ASCII),
    ("short_forms", "endings as 's are cut off in any case by one pattern, "
     "in small letters by another",
     "none", SHORT_FORMS),
    ("digits", "one, three or all digits a piece, counted from the left", "none", DIGITS),
    ("spaces", "the last of several spaces goes with the word; other white space does not", "none",
     SPACES),
    ("line_ends", "line ends stay together, with spaces before them and signs before those", "none",
     LINES),
    ("scripts", "every script has letters; upper and lower case, none, or both", "none", SCRIPTS),
    ("marks", "a mark after its letter is no letter; composed and apart are two "
     "texts but for one model",
     "none", MARKS),
    ("emoji", "several code points a picture, four bytes a code point, several tokens a byte run",
     "none", EMOJI),
    ("unseen", "characters without a shape are kept", "none", UNSEEN),
    ("code", "signs in a row, indentation, quotes", "none", CODE),
    ("not_utf8", "bytes that are no text must come back unchanged", "none", NOT_UTF8),
    ("ascii_bytes", "each byte below 0x80 alone is some token", "none", EVERY),
    ("high_bytes", "each byte from 0x80 on alone is some token and no text", "none", HALVES),
    ("long", "one piece of hundreds of bytes is merged in the same order as a short one", "none",
     LONG),
    ("injected", "what looks like a special token in a user's text is text", "none", INJECTED),
    ("parsed", "special tokens written by a template are taken as such", "parse", INJECTED),
    ("added", "what the model's policy puts before a text stands there once", "add", ADDED),
]
COMPOSED = "the publisher asks for NFC, so the ids are those of the composed text"
