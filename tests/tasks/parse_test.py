"""Every rule of the readers is a sentence, tried on replies that invite mistakes."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from jswarm.tasks import options, parse

CHOICES = {"A": "a man walks", "B": "New York", "C": "New York City", "D": "0"}
TEN = {k: f"thing {n}" for n, k in enumerate("ABCDEFGHIJ")}
SMALL = settings(max_examples=150, deadline=None)
# Raw text, and text made of the pieces that the readers look for.
TEXT = st.one_of(
  st.text(max_size=200),
  st.lists(
    st.sampled_from(
      [
        "A",
        "B",
        "I",
        "(",
        ")",
        ".",
        ":",
        " ",
        "\n",
        "answer is",
        "Answer:",
        "not",
        "0",
        "Rating:",
        "/10",
        "7",
        "-",
        "$",
        "1,000",
        "%",
        "Question:",
        "New York",
        "\\boxed{",
        "true",
        "False",
        "no",
        "yes",
        "####",
        "e9",
        "/",
      ]
    ),
    max_size=40,
  ).map("".join),
)


def picks(label, *replies, choices=CHOICES):
  for reply in replies:
    assert options.choose(reply, choices) == label, reply


def test_a_label_alone_is_the_answer_in_any_dress():
  picks("B", "B", "b", " B.", "B)", "(B)", "(b)", "**B**", "B:", '"B"', "\n\nB\n")


def test_a_stated_answer_counts_in_many_forms():
  picks(
    "C",
    "The answer is C",
    "the answer is (C).",
    "Answer: C",
    "answer: c",
    "The correct option is C because of it",
    "I would choose C",
    "**Answer:** C",
    "So the final answer is $\\boxed{C}$",
    "\\boxed{\\text{C}}",
    "Option C is the correct answer",
    "C is correct",
    "I'd pick the option C.",
  )


def test_the_last_stated_answer_beats_the_first_letter_and_earlier_answers():
  picks(
    "C",
    "A dog. The answer is C.",
    "B is tempting. However the answer is C.",
    "The answer is B. No, wait, the answer is C.",
    "(A) is wrong. Answer: C",
  )


def test_the_article_a_and_the_pronoun_i_are_no_labels():
  picks(
    None,
    "A man runs",
    "A dog or a cat",
    "the answer is a cat",
    "The answer is A man who runs",
  )
  picks(None, "I think so", "I'm sure", "So I guess it is true", choices=TEN)
  picks("C", "I think C", "I believe that (C) fits", choices=TEN)
  picks("A", "The answer is A because of it", "A is right", "the answer is a.")
  picks("I", "I", "The answer is I.", "I.", choices=TEN)


def test_labels_that_are_denied_do_not_count():
  picks(
    None,
    "not B",
    "The answer is not B",
    "neither A nor B",
    "B is wrong",
    "It isn't (B)",
    "B isn't it",
  )
  picks(
    "D",
    "I would not choose A but D",
    "(A) is wrong, (D) is right",
    "(D) is right, (A) is wrong",
    "B is incorrect. D.",
  )


def test_an_opening_label_is_the_answer_whatever_its_reasons_quote():
  picks(
    "B",
    "B. Because A: a man walks is not a city",
    "B: New York, not (C)",
    "B because A: is low",
  )


def test_what_follows_a_further_question_is_not_the_answer():
  picks(
    "B",
    "B: New York\n\nQuestion: next?\nA: x\nB: y\nThe answer is C",
    "The answer is B. Question: next? The answer is A.",
  )
  picks("C", "Question: which one? The answer is C.")


def test_a_copied_list_of_options_is_no_answer():
  listed = "A: a man walks\nB: New York\nC: New York City\nD: 0"
  picks(None, listed, "A: a man walks B: New York C:")
  picks("D", listed + "\nThe answer is D", "The answer is D.\n" + listed)


def test_the_full_text_counts_if_it_names_one_option():
  picks("A", "A man walks", "He said that a man walks.", "The answer is: A man walks")
  picks("C", "new york city!", "It is New  York City, I believe")
  picks("B", "It is New York, I believe")
  picks(None, "New York, or else 0", "It is not New York")


def test_an_option_that_is_a_number_is_not_found_inside_another_number():
  picks(None, "0.5", "-0", "10", "It costs 1.0 dollars")
  picks("D", "It costs 0 dollars.", "0")


def test_a_letter_inside_a_word_is_no_label():
  picks(None, "B-52", "ABBA", "Bob", "vitamin-C", "")


def test_two_options_with_the_same_text_are_not_told_apart_by_it():
  picks(None, "yes", choices={"A": "yes", "B": "Yes"})
  picks("B", "B", choices={"A": "yes", "B": "Yes"})


def test_labels_need_not_be_letters():
  digits = {"1": "red", "2": "blue", "10": "green"}
  picks("10", "The answer is 10", "10", "10. green", "green", choices=digits)
  picks(None, "I have 1 apple and 2.5 pears", choices=digits)
  picks("no", "No", "The answer is no.", choices={"yes": "it is", "no": "it is not"})


def test_as_published_any_letter_in_the_first_five_characters_wins():
  assert options.choose_as_published("A man runs", CHOICES) == "A"
  assert options.choose_as_published("USDA, so the answer is C", CHOICES) == "A"
  assert options.choose_as_published("\n C is it", CHOICES) == "C"


def test_as_published_the_last_five_characters_come_next_then_the_text():
  assert options.choose_as_published("the answer is C.", CHOICES) == "C"
  assert options.choose_as_published("it is in new york city.", CHOICES) == "B"
  assert options.choose_as_published("nothing to say", CHOICES) is None


@pytest.mark.parametrize(
  "gold,reply",
  [
    ("12", "The answer is 12."),
    ("12", "12 apples"),
    ("12", "5 + 7 = 12"),
    ("1,000", "it is 1000"),
    ("1000", "$1,000.00"),
    ("18", "so $18 a day."),
    ("0.5", "1/2"),
    ("1/2", "the answer is 0.5"),
    ("5%", "5 %"),
    ("7.0", "7"),
    ("-3", "x equals -3"),
    ("9", "25-16 is 9"),
    ("9", "16-9"),
    ("3", "5 - 3"),
    ("42", "The answer is 42. I hope all 3 parts help."),
    ("42", "#### 42"),
    ("42", "The answer is 42 because 40 and 2"),
    ("7", "The answer is 3 + 4 = 7"),
    ("42", "That makes 42. The answer is"),
    ("42", "so \\boxed{42}."),
    ("7", "The answer is approx. 7"),
    ("5", "The answer to the riddle is 5!"),
  ],
)
def test_a_numeric_gold_is_compared_by_value_with_the_last_number(gold, reply):
  assert parse.exact(gold, reply)


@pytest.mark.parametrize(
  "gold,reply",
  [
    ("1", "12"),
    ("12", "1"),
    ("1", "The answer is 21"),
    ("3", "3 of them leave 2"),
    ("42", "42? No. The answer is 41."),
    ("5", "x5"),
    ("5", "0.5"),
    ("2", "1/2"),
    ("3", "-3"),
    ("1", ""),
    ("1", "no number"),
    ("000", "1,000"),
    ("8", "7 Question: 8"),
  ],
)
def test_a_number_inside_another_or_earlier_in_the_reply_is_wrong(gold, reply):
  assert not parse.exact(gold, reply)


@pytest.mark.parametrize(
  "gold,right,wrong",
  [
    ("Yes", "Yes, there is no cycle.", "No, yes would need a cycle."),
    ("No", "There is no such path, so the answer is no.", "nothing is known"),
    ("No", "No", "yes"),
    ("Yes", "I see no edge at first, but yes", "not known"),
    ("Roger Miller", "It was sung by Roger Miller.", "It was not Roger Miller"),
    ("CUB", "cub", "incubate"),
    ("Claus", 'The answer is "Claus".', "Santa-Claus"),
    ("Brunei, China", "brunei and, well... Brunei, China!", "China, Brunei"),
    ("The World of Tomorrow", "World of Tomorrow", "World of Today"),
    ("(¬A → B)", "(¬A → B)", "A B"),
    ("St. Louis", "The answer is St. Louis.", "Louis"),
    ("Paris", "London? The answer is Paris", "Paris? The answer is London"),
  ],
)
def test_a_verbal_gold_must_be_the_answer_in_whole_words(gold, right, wrong):
  assert parse.exact(gold, right)
  assert not parse.exact(gold, wrong)


def test_as_published_the_gold_is_a_substring_also_of_another_number():
  assert parse.exact_as_published("1", "12")
  assert not parse.exact_as_published("Yes", "yes")


def test_as_published_only_the_last_five_words_are_searched_where_told():
  reply = "12 apples\nand then we say that it is 7"
  assert parse.exact_as_published("12", reply)
  assert not parse.exact_as_published("12", reply, tail_words=5)
  assert parse.exact_as_published("7", reply, tail_words=5)


def test_f1_ignores_case_articles_punctuation_and_order():
  assert parse.f1("The cat, a dog", "DOG cat.") == 1
  assert parse.f1("one two", "two three") == 0.5
  assert parse.f1("one", "two") == 0
  assert parse.f1("Apertium", "After long thought, the answer is Apertium") == 1
  assert parse.f1("the", "an") == 1 and parse.f1("the", "cat") == 0


@pytest.mark.parametrize(
  "verdict,rating",
  [
    ("Rating: 7", 7),
    ("Rating: 7/10", 7),
    ("Rating: 10/10.", 10),
    ("7/10", 7),
    ("**Rating:** 8, since it fits", 8),
    ("Rating (1-10): 8", 8),
    ("rating is 3", 3),
    ("I give 8 out of 10", 8),
    ("a score of 9.", 9),
    ("7", 7),
    (" **7**. ", 7),
    ("Rating: ?/10 was asked; Rating: 6/10", 6),
    ("Rating: 2/10, no: Rating: 3/10", 3),
    ("Rating: 8/10. It has 3/10 of the facts", 8),
    ("Rating: 11, I mean Rating: 9", 9),
  ],
)
def test_a_verdict_names_the_last_rating_from_one_to_ten(verdict, rating):
  assert parse.rating(verdict) == rating


@pytest.mark.parametrize(
  "verdict",
  [
    "",
    "good",
    "Rating: 11",
    "Rating: 0/10",
    "Rating: 7.5",
    "7.5/10",
    "Rating: 7/100",
    "Rating: 4/5",
    "Rating: -3",
    "Rating: 1 to 10",
    "on a scale of 1-10",
    "37/10",
    "in 2010 there were 7 facts",
    "Rating: seven",
    "1/1/10",
  ],
)
def test_a_verdict_without_a_rating_is_missing_not_one(verdict):
  assert math.isnan(parse.rating(verdict))


def test_as_published_a_verdict_without_the_marker_is_one():
  assert parse.rating_as_published("Rating: 7/10, good") == 7
  assert parse.rating_as_published("7/10") == 1
  assert parse.rating_as_published("Rating: 7, good") == 1
  assert parse.rating_as_published("Rating: " + "9" * 400) == 1


def test_a_self_check_says_true_in_any_case_unless_denied():
  for check in ("true", "True.", "It is TRUE", "true, not false", "not false"):
    assert parse.says_true(check), check
  for check in ("", "false", "not true", "untrue", "It isn't true", "False, not true"):
    assert not parse.says_true(check), check


def test_as_published_a_self_check_accepts_only_the_capital():
  assert parse.says_true_as_published("True") and parse.says_true_as_published("unTrue")
  assert not parse.says_true_as_published("true")


@SMALL
@given(TEXT)
def test_every_reader_is_total(text):
  for pick in (options.choose, options.choose_as_published):
    assert pick(text, TEN) in (None, *TEN)
    assert pick(text, CHOICES) in (None, *CHOICES)
  for rate in (parse.rating, parse.rating_as_published):
    assert isinstance(rate(text), float)
  assert parse.rating(text) in range(1, 11) or math.isnan(parse.rating(text))
  assert isinstance(parse.says_true(text), bool)


@SMALL
@given(TEXT, TEXT)
def test_answers_are_judged_for_any_gold_and_reply(gold, reply):
  assert isinstance(parse.exact(gold, reply), bool)
  assert 0 <= parse.f1(gold, reply) <= 1


@SMALL
@given(TEXT.filter(str.strip))
def test_the_gold_text_itself_is_always_right(gold):
  for text in (gold, f"{gold} Question: {gold}"):
    assert parse.exact(text, text)
    assert parse.f1(text, text) == 1
  assert parse.exact_as_published(gold.strip(), gold.strip()) or "\n" in gold


@SMALL
@given(
  st.sampled_from(sorted(TEN)),
  st.sampled_from(
    ["{}", "{}.", "({})", "The answer is {}.", "Answer: {}", "**{}**", "{}: thing"]
  ),
)
def test_the_gold_label_itself_is_always_right(label, form):
  assert options.choose(form.format(label), TEN) == label


@SMALL
@given(st.decimals(-(10**9), 10**9, places=3, allow_nan=False))
def test_a_number_is_right_however_it_is_written(value):
  assert parse.exact(str(value), f"The answer is {value:,}.")
  assert not parse.exact(str(value), f"The answer is {value + 1:,}.")
