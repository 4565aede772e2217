"""Results of an evaluation, as values that become JSON; `docs/evaluation.schema.json` is generated from them."""

from pydantic import BaseModel, ConfigDict, Field

from speechmlp.runs.history import Calibration


class Result(BaseModel):
    """Plain, unchangeable values."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Result):
    """A score with its 95 % confidence interval."""

    value: float
    low: float
    high: float
    method: str = Field(description="how the interval was found")


class Answers(Result):
    """What a user gets: each letter is answered rightly, answered wrongly, or rejected. Fractions of all letters."""

    reject_below: float = Field(description="probability of the most probable letter under which it is rejected")
    right: Estimate = Field(description="fraction answered with the spoken letter")
    wrong: Estimate = Field(description="fraction answered with another letter")
    rejected: Estimate = Field(description="fraction whose most probable letter is less probable than the threshold")
    rejected_right: Estimate = Field(
        description="fraction rejected although the most probable letter is the spoken one"
    )
    counts: tuple[int, int, int, int] = Field(description="the same four as numbers of letters")


class LetterScores(Result):
    """Scores of one letter."""

    letter: str
    spoken: int = Field(description="utterances of it")
    recognised: int = Field(description="utterances recognised as it")
    right: int = Field(description="utterances of it recognised as it")
    recall: Estimate | None = Field(description="right / spoken; null if it was never spoken")
    precision: Estimate | None = Field(description="right / recognised; null if it was never recognised")


class ReliabilityBin(Result):
    """Utterances whose most probable letter has a probability in a range."""

    low: float
    high: float
    count: int
    probability: float | None = Field(
        description="mean probability of the most probable letter; null if there are none"
    )
    accuracy: float | None


class CoveragePoint(Result):
    """Accuracy if the least certain letters are rejected."""

    coverage: float = Field(description="fraction of letters that are answered")
    accuracy: float = Field(description="of those")
    reject_below: float = Field(description="smallest probability that is answered")


class Group(Result):
    """A part of the utterances."""

    kind: str = Field(description="speaker, gender, duration, loudness, or a column of the manifest")
    name: str
    count: int
    num_speakers: int
    accuracy: Estimate
    answers: Answers | None = Field(None, description="null if the classifier gives letters only")


class Gap(Result):
    """The best and the worst group of a kind, among those with enough letters and speakers to be compared."""

    kind: str
    worst: Group
    best: Group
    difference: Estimate = Field(
        description="accuracy of the best minus that of the worst; the more groups, the larger it is by chance alone"
    )


class Scores(Result):
    """Scores of a classifier on a set of utterances. Null: the classifier gives letters only, or there are none."""

    num_utterances: int
    num_speakers: int
    accuracy: Estimate = Field(description="fraction whose most probable letter is the spoken one")
    answers: Answers | None = Field(None, description="what is answered and what is rejected at the threshold")
    top3: Estimate | None = Field(description="fraction whose three most probable letters include the spoken one")
    macro_recall: Estimate = Field(description="mean of the letters' recalls")
    e_set: Estimate | None = Field(description="accuracy over B C D E G P T V Z; null if the model lacks one of them")
    m_n: Estimate | None = Field(description="accuracy over M and N; null if the model lacks one of them")
    loss: Estimate | None = Field(description="mean cross-entropy, in nats: 3.26 for equal probabilities of 26 letters")
    calibration_error: Estimate | None = Field(
        description="mean distance between probability and accuracy, over 15 bins of equal width"
    )
    letters: tuple[LetterScores, ...]
    confusion: tuple[tuple[int, ...], ...] = Field(
        description="counts, spoken by recognised, in the order of `letters`"
    )
    reliability: tuple[ReliabilityBin, ...]
    coverage: tuple[CoveragePoint, ...]
    groups: tuple[Group, ...]
    gaps: tuple[Gap, ...] = Field((), description="one for each kind with two groups that can be compared")

    def confusions(self, most: int = 10) -> list[tuple[str, str, int]]:
        """Returns the most frequent mistakes as (spoken, recognised, count), most frequent first."""
        names = [scores.letter for scores in self.letters]
        pairs = [
            (names[spoken], names[recognised], count)
            for spoken, row in enumerate(self.confusion)
            for recognised, count in enumerate(row)
            if count and spoken != recognised
        ]
        return sorted(pairs, key=lambda pair: -pair[2])[:most]


class ChangedUtterance(Result):
    """An utterance that two classifiers recognise as different letters."""

    id: str
    speaker: str
    recording: str = Field(description="its path, with start and end in seconds if the letter is a part of it")
    spoken: str
    recognised: str
    recognised_by_other: str


class Comparison(Result):
    """Comparison with another classifier on the same utterances."""

    other: str = Field(description="checkpoint of the other")
    difference: Estimate = Field(description="accuracy minus the other's, paired")
    only_first: int = Field(description="utterances that the other gets wrong and this one right")
    only_second: int = Field(description="utterances that the other gets right and this one wrong")
    p_value: float = Field(description="exact McNemar test, two-sided")
    changed: tuple[ChangedUtterance, ...]
    answers_of_other: Answers | None = Field(None, description="at the other's own threshold")


class Mistake(Result):
    """An utterance recognised as another letter."""

    id: str
    speaker: str
    recording: str = Field(description="its path, with start and end in seconds if the letter is a part of it")
    spoken: str
    recognised: str
    probability: float = Field(description="of the recognised letter")
    probability_of_spoken: float


class Robustness(Result):
    """The accuracy in a listening condition."""

    kind: str = Field(description="white, babble, reverb, gain, shift, speed or telephone")
    condition: str = Field(description="its name, as --condition takes it")
    level: int = Field(description="dB, ms or %, by kind; 0 for the telephone")
    accuracy: Estimate
    answers: Answers | None = None


class RejectedKind(Result):
    """A kind of non-letter."""

    name: str
    count: int
    declined: float = Field(description="fraction that is rejected at reject_below")


class Rejection(Result):
    """Scores of rejection: how well letters are separated from recordings without a letter."""

    reject_below: float = Field(
        description="probability of the most probable letter under which a recording is rejected"
    )
    letters_declined: float = Field(description="fraction of letters that are rejected at it")
    others_declined: float = Field(description="fraction of recordings without a letter that are rejected at it")
    others_declined_at_5_percent: float = Field(description="the same if exactly 5 % of these letters are rejected")
    roc_area: float = Field(description="chance that a letter has a higher probability than a recording without one")
    kinds: tuple[RejectedKind, ...]


class Baseline(Result):
    """What answering without listening achieves on these letters."""

    chance: float = Field(description="accuracy of drawing one of the model's labels")
    letter: str = Field(description="the most frequent letter")
    majority: float = Field(description="accuracy of always answering it")
    num_letters: int = Field(description="different letters among the utterances")
    num_labels: int = Field(description="labels of the model, 26 for letters")


class Training(Result):
    """The training that the model comes from."""

    epoch: int = Field(description="whose weights these are")
    epochs: int = Field(description="that were done, as far as the checkpoint and its folder say")
    train_accuracy: float | None = Field(description="after that epoch, on training letters; null if not measured")
    valid_accuracy: float = Field(description="after that epoch, on the validation set")


class Evaluation(Result):
    """Everything that an evaluation found."""

    checkpoint: str
    manifest: str
    split: str | None = Field(description="train, valid, test, or null for every utterance")
    condition: str
    temperature: float = Field(description="that logits are divided by for probabilities")
    left_out: int = Field(description="recordings that could not be read")
    scores: Scores
    mistakes: tuple[Mistake, ...] = Field(description="the most certain first")
    robustness: tuple[Robustness, ...] = ()
    comparison: Comparison | None = None
    rejection: Rejection | None = Field(None, description="null if no recordings without a letter were given")
    baseline: Baseline | None = None
    training: Training | None = Field(None, description="null if the checkpoint has no history")
    calibration: Calibration | None = Field(None, description="null if the checkpoint does not say it")
    trained_on: int | None = Field(
        None, description="how many of the letters the model was trained on; null if the checkpoint does not say it"
    )
    advice: str | None = Field(None, description="what a poor accuracy means and what to try next")
