"""Words by which columns and values of medical tables are told, in the languages that such tables mostly come in."""

from __future__ import annotations

import re
import unicodedata

PATIENT = ("patient", "subject", "case", "pid", "person", "fall", "proband", "sujet", "paciente", "patientenid", "mrn")
AGE = ("age", "alter", "edad", "âge", "eta", "età", "leeftijd")
SEX = ("sex", "gender", "geschlecht", "sexe", "sexo", "sesso", "geslacht")
VIEW = ("view", "projection", "position", "projektion", "proyeccion", "incidence", "vista", "plane", "ebene")
SIDE = ("laterality", "side", "seite", "cote", "côté", "lado", "lato")
SPLIT = ("split", "set", "subset", "partition", "phase", "fold", "usage", "aufteilung", "datensatz")
SITE = ("site", "hospital", "centre", "center", "institution", "klinik", "krankenhaus", "zentrum", "hopital", "hôpital")
LABEL = (
    *("label", "labels", "class", "category", "diagnosis", "finding", "findings", "target", "grade", "outcome", "dx"),
    *("birads", "density", "pathology", "befund", "diagnose", "klasse", "grad", "hallazgo", "reperto"),
    *("diagnostic", "diagnostico", "bevinding", "achado"),
    *("stage", "severity", "result", "resultat", "ergebnis", "abnormality", "malignancy", "classe", "clase"),
)
IDENTITY = ("id", "uid", "nr", "no", "number", "nummer", "name", "date", "datum", "fecha", "time", "zeit", "path")

SEXES = {
    "F": ("f", "w", "female", "woman", "weiblich", "frau", "femme", "féminin", "feminin", "mujer", "femenino", "v"),
    "M": ("m", "male", "man", "männlich", "maennlich", "mann", "homme", "masculin", "hombre", "masculino"),
}
ISO_SEXES = {"1": "M", "2": "F"}
"""ISO/IEC 5218."""
SPLITS = {
    "train": ("train", "training", "tr", "trn", "development", "dev-train", "learn"),
    "validation": ("val", "valid", "validation", "dev", "tune", "tuning", "va"),
    "test": ("test", "testing", "tst", "ts", "te", "holdout", "hold-out", "eval", "evaluation"),
}
YES = (
    *("1", "1.0", "yes", "y", "true", "t", "pos", "positive", "present", "ja", "j", "positiv"),
    *("oui", "si", "sí", "wahr"),
)
NO = ("0", "0.0", "no", "n", "false", "f", "neg", "negative", "absent", "nein", "negativ", "non", "falsch")
NOTHING = (
    *("no finding", "no findings", "no_finding", "none", "normal", "healthy", "nothing", "no abnormality"),
    *("ohne befund", "o.b.", "kein befund", "unauffällig", "gesund", "sans anomalie", "sano"),
)
UNITS = {
    "mm": "mm", "cm": "cm", "kg": "kg", "kpa": "kPa", "mmhg": "mmHg", "hu": "HU", "ml": "ml", "grad": "degrees",
    "deg": "degrees", "degrees": "degrees", "db/m": "dB/m", "ms": "ms", "bpm": "1/min", "mg/dl": "mg/dl", "%": "%",
    "percent": "%", "mm2": "mm²", "mm²": "mm²", "cm2": "cm²", "cm²": "cm²", "ml/min": "ml/min", "g": "g", "mgy": "mGy",
    "mg/cm3": "mg/cm³", "mg/cm³": "mg/cm³", "g/cm2": "g/cm²", "g/cm²": "g/cm²", "kg/m2": "kg/m²", "kg/m²": "kg/m²",
    "cm/s": "cm/s", "m/s": "m/s", "mmol/l": "mmol/l", "ng/ml": "ng/ml", "u/l": "U/l", "iu/l": "IU/l", "ml/m2": "ml/m²",
}  # fmt: skip
"""As names of columns spell them, to how they are written."""


def folded(text: str) -> str:
    """Without the differences that are none: case, and blanks."""
    return " ".join(text.casefold().split())


def words_of(column: str) -> list[str]:
    """``PatientAge[J]`` to ``patient age j``."""
    apart = re.sub(r"(?<=[a-zà-ÿ0-9])(?=[A-ZÀ-Þ])", " ", column)
    return re.findall(r"[^\W\d_]+", apart.casefold())


def is_called(column: str, words: tuple[str, ...]) -> bool:
    """Whether one of the words is among those of a column's name, or the name as a whole."""
    own = words_of(column)
    return not set(words).isdisjoint([*own, *map(slug, own), folded(column), slug(column).replace("_", "")])


def names_patient(column: str) -> bool:
    """Whether a column's name says that it tells patients apart, compounds as ``Patientennummer`` included."""
    return is_called(column, PATIENT) or re.search("patient|subject|proband", column.casefold()) is not None


def unit_of(column: str) -> str | None:
    """The unit in the name of a column: at its end, in brackets, or behind ``_`` or a blank."""
    found = re.search(r"(?:[\[(]\s*([^\])]+?)\s*[\])]|[_ ]([^\W_]+|%|mm²|cm²))\s*$", column.casefold())
    return found and UNITS.get(found[1] or found[2])


def split_of(name: str) -> str | None:
    """The one split that a name tells: ``train`` of ``labels_train``; None of ``labels``, and of ``train_and_test``."""
    own = {*words_of(name.replace("_", " ")), folded(name)}
    found = [split for split, said in SPLITS.items() if not own.isdisjoint(said)]
    return found[0] if len(found) == 1 else None


def slug(text: str) -> str:
    """A word of small letters, digits and ``_`` for a text; empty where nothing of it is Latin."""
    for letter, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss"), ("ø", "o"), ("æ", "ae"), ("ł", "l")):
        text = text.casefold().replace(letter, plain)
    bare = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", bare).strip("_")
