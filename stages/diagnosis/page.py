"""The diagnosis as a page: figures 5 and 6 of the paper, and TIDE's errors."""

from collections.abc import Callable, Iterator, Sequence

from cache.text import counted
from stages.page.bars import Bar, IntervalRow, grouped_bars, interval_chart, stacked_bars
from stages.page.box_plots import BoxRow, box_plots, box_row
from stages.page.charts import ChartAxis, legend, palette
from stages.page.markup import Markup, document, percent, section, table, tag, tile
from stages.scoring.files import WITH_BBOX, WITHOUT_BBOX
from stages.scoring.tide import KINDS as TIDE_KINDS

from .analysis import DiagnosisOfSet, n_normal
from .characteristics import Characteristic
from .document import Diagnosed
from .false_positives import MULTIPLES, Mixture
from .sensitivity import LEAST_OBJECTS
from .similar import groups

_SETS = {WITH_BBOX: "with box regression", WITHOUT_BBOX: "without"}
_Kind = tuple[str, str, str]  # what it is called, its field of a mixture, its colour class
_RIGHT: _Kind = ("right", "right", "c0")
_WRONG: tuple[_Kind, ...] = (
    ("poorly localised", "localisation", "c1"),
    ("similar class", "similar", "c2"),
    ("other class", "other", "c3"),
    ("background", "background", "c4"),
)
_CHANGES = (
    ("as it is", "all"),
    ("places repaired", "repaired_localisation"),
    *((f"no {name}", f"no_{key}") for name, key in (("Loc", "localisation"), ("Sim", "similar"), ("Oth", "other"))),
    ("no BG", "no_background"),
    ("no BG or Oth", "no_background_or_other"),
    *(
        (f"{name} alone", f"only_{key}")
        for name, key in (("Loc", "localisation"), ("Sim", "similar"), ("Oth", "other"))
    ),
    ("BG alone", "only_background"),
)
_FRACTIONS = {1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2"}
_CONFUSED = 3  # classes named beside each class
_NORMALISED, _AP = ChartAxis("normalised AP, %", 0, 100), ChartAxis("AP, %", 0, 100)
_CONTENTS = {
    "scores": "Scores",
    "false-positives": "False positives",
    "detections": "The best detections",
    "cost": "What each kind costs",
    "sensitivity": "Sensitivity",
    "characteristics": "Characteristics",
    "classes": "Every class",
    "tide": "TIDE",
}


def page(made: Diagnosed) -> str:
    """Return the HTML document; a function of its figures alone."""
    truth = made.truth
    n_objects, n_ignored = int(truth.positives.sum()), int(truth.ignored.sum())
    lead = (
        f"{counted(n_objects, 'object')} that {'counts' if n_objects == 1 else 'count'} in "
        f"{counted(truth.n_images, 'test image')}; "
        f"{counted(n_ignored, 'difficult or crowd one is', 'difficult or crowd ones are')} ignored. After Hoiem et "
        "al., Diagnosing error in object detectors (2012), as the R-CNN paper's figures 5 and 6 have it. AP, recall "
        "and shares in percent."
    )
    sections = [
        _scores(made),
        _false_positives(made),
        _detections(made),
        _cost(made),
        _sensitivity(made),
        _characteristics(made),
        _classes(made),
        _tide(made),
    ]
    return document(f"Diagnosis of {made.title}", lead, list(_CONTENTS.items()), sections)


def _side_by_side(made: Diagnosed, draw: Callable[[DiagnosisOfSet], Markup]) -> Markup:
    """Draw something of each set of detections, under its name where there are two."""
    if len(made.found) == 1:
        return draw(made.first)
    parts = [tag("div", tag("h4", _SETS[name]), draw(one)) for name, one in made.found.items()]
    return tag("div", *parts, class_="columns")


def _in_columns(made: Diagnosed, parts: Sequence[Markup]) -> Markup:
    """Put parts beside each other, or below where each has two charts of its own."""
    return tag("div", *parts, class_="columns" if len(made.found) == 1 else None)


def _note(text: str) -> Markup:
    return tag("p", text, class_="note")


def _scores(made: Diagnosed) -> Markup:
    settings, one = made.settings, made.first
    tiles = [
        tile("AP, VOC 2010", percent(one.voc2010), "area under the curve"),
        tile("AP, VOC 2007", percent(one.voc2007), "11 points"),
        tile(
            "normalised AP",
            percent(one.normalised),
            f"as if each class had {n_normal(made.truth, settings):g} objects",
        ),
        tile("false positives", str(one.whole.n_false_positives), "of all classes"),
    ]
    matching = {"voc": "VOC's", "hoiem": "Hoiem et al.'s"}[settings.matching]
    text = f"Means over classes, right at IoU ≥ {settings.iou:g}; detections and objects matched by {matching} rule."
    lines = [tag("li", line) for line in made.notes]
    return section(
        "scores",
        "Scores",
        tag("div", *tiles, class_="tiles"),
        _note(text),
        tag("ul", *lines, class_="note") if lines else Markup(""),
    )


def _groups(made: Diagnosed) -> list[str]:
    """Return all classes together, and the sets that are shown."""
    return [name for name in groups(made.settings.similar_classes, made.classes) if name in made.first.sets]


def _wrong(made: Diagnosed) -> list[_Kind]:
    """Return the kinds of false positives that there can be."""
    return [kind for kind in _WRONG if made.has_similar or kind[1] != "similar"]


def _changes(made: Diagnosed) -> list[tuple[str, str]]:
    """Return what is changed, by title and name, of the kinds that there can be."""
    return [change for change in _CHANGES if made.has_similar or "similar" not in change[1]]


def _in_percent(value: float | None) -> float | None:
    """Return a score in [0, 1] as it stands on an axis in percent."""
    return None if value is None else 100 * value


def _shares(mixtures: Sequence[Mixture], kinds: Sequence[_Kind], text: Callable[[float], str]) -> Markup:
    rows = []
    for one in mixtures:
        counts = [getattr(one, key) for _, key, _ in kinds]
        total = sum(counts) or 1
        rows.append((text(one.at), [round(100 * count / total, 1) for count in counts]))
    return stacked_bars(rows, [(name, style) for name, _, style in kinds], width=520)


def _false_positives(made: Diagnosed) -> Markup:
    parts = []
    for group in _groups(made):

        def draw(one: DiagnosisOfSet, group: str = group) -> Markup:
            found = one.sets[group].false_positives
            if not found:
                number = counted(one.sets[group].n_false_positives, "false positive")
                return _note(f"{number}: fewer than the first step.")
            return _shares(found, _wrong(made), lambda at: f"{at:g}")

        parts.append(tag("div", tag("h3", group), _side_by_side(made, draw)))
    twice = (
        " Those on background count twice there, as in the authors' program." if made.settings.background_twice else ""
    )
    text = (
        "What the first 25, 50, ... 3200 false positives are (figure 5), best score first; the classes of a set are "
        f"added up at equal rank.{twice} Poorly localised: IoU of 0.1 and more with an object of the class, but too "
        "little, or a second detection of one."
    )
    if not made.has_similar:
        text += " No classes are similar here (similar_classes), so that none is on a similar class."
    return section("false-positives", "False positives", _note(text), _in_columns(made, parts))


def _detections(made: Diagnosed) -> Markup:
    def draw(one: DiagnosisOfSet) -> Markup:
        whole = one.whole
        rows = [
            [f"{_times(multiple)} ×", percent(plain), percent(repaired)]
            for multiple, (plain, repaired) in zip(MULTIPLES, whole.recalls, strict=True)
        ]
        chart = _shares(whole.detections, [_RIGHT, *_wrong(made)], lambda at: f"{_times(at)} ×")
        return tag("div", chart, table(["detections", "recall", "recall, places repaired"], rows))

    of = (
        "the objects that a class has in the mean (so the authors' program counts them; background twice)"
        if made.settings.background_twice
        else "all objects"
    )
    text = (
        f"What the best detections of all classes together are, by their number in multiples of {of}, added up at "
        "equal rank. Recall: of each class as many of its best detections are taken as that multiple of its own "
        "objects, and it is seen what part of these they find; the mean over the classes that have objects."
    )
    return section("detections", "The best detections", _note(text), _side_by_side(made, draw))


def _times(multiple: float) -> str:
    return _FRACTIONS.get(multiple, f"{multiple:g}")


def _left_out(made: Diagnosed) -> Markup:
    return _note(f"{made.left_out}.") if made.left_out else Markup("")


def _cost(made: Diagnosed) -> Markup:
    def draw(one: DiagnosisOfSet) -> Markup:
        rows = [
            [name, *(percent(one.sets[name].aps.get(key)) for _, key in _changes(made))]
            for name in (*_groups(made), *made.shown_classes)
        ]
        return table(["AP (VOC 2010)", *(title for title, _ in _changes(made))], rows)

    similar = " Sim: similar class;" if made.has_similar else ""
    text = (
        "AP when false positives of one kind are left out, when those of one kind alone are left, and when each "
        f"poorly localised detection is moved onto its object (further ones left out). Loc: poorly localised;{similar} "
        "Oth: other class; BG: background."
    )
    charts = [tag("div", tag("h4", _SETS[name]), draw(one)) for name, one in made.found.items()]
    return section(
        "cost",
        "What each kind costs",
        _note(text),
        _left_out(made),
        *(charts if len(charts) > 1 else [draw(made.first)]),
    )


def _sensitivity(made: Diagnosed) -> Markup:
    def draw(one: DiagnosisOfSet) -> Markup:
        rows = [
            IntervalRow(f"{name} ({found.n_classes})", "c0", 100 * found.whole, 100 * found.low, 100 * found.high)
            for name, found in one.sensitivity.items()
        ]
        if not rows:
            return _note(f"No subset has {LEAST_OBJECTS} objects.")
        chart = interval_chart(rows, _NORMALISED, "{:.1f}".format, reference=_in_percent(one.normalised))
        cells = [
            [name, percent(found.low), percent(found.whole), percent(found.high)]
            for name, found in one.sensitivity.items()
        ]
        return tag("div", chart, table(["characteristic", "lowest", "all", "highest"], cells))

    text = (
        "Normalised AP of the subset of objects on which the detector does worst, and best, by characteristic, in "
        f"the mean over the classes (their number in brackets) with subsets of {LEAST_OBJECTS} objects and more "
        "(figure 6, right). The lower end says what to work on; the width, how much it matters. Dots: all objects of "
        "these classes; dashed: of all classes."
    )
    return section("sensitivity", "Sensitivity", _note(text), _side_by_side(made, draw))


def _characteristics(made: Diagnosed) -> Markup:
    parts = []
    for one in made.characteristics:
        sizes = made.sizes(one)
        if sum(size > 0 for size in sizes.values()) < 2:
            continue

        def draw(of: DiagnosisOfSet, one: Characteristic = one) -> Markup:
            rows = []
            for name in one.subsets:
                found = of.means[one.name][name]
                ap, spread = (None, 0.0) if found is None else found
                low, high = (None, None) if ap is None else (max(0.0, ap - spread), min(1.0, ap + spread))
                rows.append(IntervalRow(name, "c0", *map(_in_percent, (ap, low, high))))
            known = of.sensitivity.get(one.group)
            whole = of.normalised if known is None else known.whole
            return interval_chart(rows, _NORMALISED, "{:.1f}".format, reference=_in_percent(whole))

        counts = ", ".join(f"{name} ({size})" for name, size in sizes.items())
        parts.append(tag("div", tag("h3", one.name), _note(f"Objects: {counts}."), _side_by_side(made, draw)))
    text = (
        "Normalised AP by what objects are like, in the mean over classes, with one standard error. Area and aspect "
        "are bins of each class's own: its lowest 10 %, 10 to 30, 30 to 70, 70 to 90, and highest 10 %."
    )
    return section("characteristics", "Characteristics", _note(text), _in_columns(made, parts))


def _classes(made: Diagnosed) -> Markup:
    one = made.first
    rows = []
    for name in made.shown_classes:
        whole = one.subsets[name].whole
        confused = list(one.confusions[name].items())[:_CONFUSED]
        rows.append(
            [
                name,
                ", ".join(f"{other} {count}" for other, count in confused) or "–",
                str(made.counts[name]),
                percent(one.per_class[name]["voc2010"]),
                percent(one.per_class[name]["voc2007"]),
                f"{percent(whole.ap)} ± {percent(whole.standard_error)}",
                str(one.sets[name].n_false_positives),
            ]
        )
    header = [
        "class",
        "confused with, by number",
        "objects",
        "VOC 2010",
        "VOC 2007",
        "normalised AP",
        "false positives",
    ]
    text = "Confusions are counted among the best detections of a class, as many as it has objects."
    spread = (
        "How AP (VOC 2010) spreads over the classes (figure 3): box from the lower to the upper quartile, line at the "
        "median, ring at the mean, whiskers to the ends, a dot for each class that has objects."
    )
    return section(
        "classes",
        "Every class",
        _note(text),
        _left_out(made),
        table(header, rows, text_columns=2),
        _note(spread),
        box_plots(list(_spreads(made)), _AP),
    )


def _spreads(made: Diagnosed) -> Iterator[BoxRow]:
    """Summarise the classes' AP of each set of detections."""
    for i, (name, one) in enumerate(made.found.items()):
        called = _SETS[name] if len(made.found) > 1 else "AP"
        row = box_row(called, palette(i).style, [_in_percent(scores["voc2010"]) for scores in one.per_class.values()])
        if row is not None:
            yield row


def _tide(made: Diagnosed) -> Markup:
    known = {name: one.tide for name, one in made.found.items() if one.tide is not None}
    if not known:
        return section("tide", "TIDE", _note("There is neither an object nor a detection."))
    paints = {name: palette(i) for i, name in enumerate(known)}
    called = _SETS if len(known) > 1 else dict.fromkeys(known, "detections")
    groups = [
        (kind, [Bar(called[name], paints[name].style, one.gains[kind]) for name, one in known.items()])
        for kind in TIDE_KINDS
    ]
    groups += [
        (title, [Bar(called[name], paints[name].style, getattr(one, key)) for name, one in known.items()])
        for title, key in (("false positives", "false_positives"), ("false negatives", "false_negatives"))
    ]
    text = (
        "AP that would be gained if all errors of a kind were mended (Bolya et al., TIDE, 2020, and its program's "
        "definitions: AP at 101 recalls, at most 100 detections of an image). Loc: IoU of 0.1 and more with an "
        "object of the class, but too little; Cls: on an object of another class; Dupe: a second detection; Bkg: "
        "nothing there; Both: badly placed on another class; Miss: objects that none of these find."
    )
    aps = "; ".join(f"{called[name]}: AP {percent(one.ap, 2)}" for name, one in known.items())
    shown = legend([(called[name], paint) for name, paint in paints.items()]) if len(known) > 1 else Markup("")
    return section(
        "tide", "TIDE", _note(text), _note(aps), shown, grouped_bars(groups, lambda value: percent(value, 2))
    )
