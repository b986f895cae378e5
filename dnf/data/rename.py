"""New utterance ids for a set in which sorting mixes speakers, such as 1 and 13 with 1_0 and 13_0."""

from __future__ import annotations

from dnf.data.data_dir import DataSet
from dnf.data.kaldi_files import key_of
from dnf.experiment.layout import SUPERVISIONS_JSONL


def keeps_together(utt2spk: dict[str, str]) -> bool:
    """Whether speakers stay in order when utterances are sorted."""
    speakers = [utt2spk[utterance] for utterance in sorted(utt2spk)]
    return speakers == sorted(speakers)


def new_ids(utt2spk: dict[str, str]) -> dict[str, str]:
    """``<speaker>-<rest>`` for every utterance id; empty if ids do not begin with speakers, or if it does not help."""
    if not all(utterance.startswith(speaker) for utterance, speaker in utt2spk.items()):
        return {}
    made = {}
    for utterance, speaker in utt2spk.items():
        rest = utterance.removeprefix(speaker).lstrip("-_.")
        made[utterance] = f"{speaker}-{rest or utterance}"
    unique = len(set(made.values())) == len(made)
    return made if unique and keeps_together({made[utt]: speaker for utt, speaker in utt2spk.items()}) else {}


def renamed(data: DataSet, ids: dict[str, str]) -> DataSet:
    """The set with new utterance ids, and new recording ids if a recording is an utterance."""
    of_recording = {} if "segments" in data.tables else ids
    keys = {"utterance": ids, "recording": of_recording, "speaker": {}, None: ids}
    tables = {
        name: dict(sorted((keys[key_of(name)].get(key, key), value) for key, value in table.items()))
        for name, table in data.tables.items()
    }
    manifests = {}
    for name, records in data.manifests.items():
        found = [dict(record) for record in records.values()]
        for record in found:
            record["id"] = (ids if name == SUPERVISIONS_JSONL else of_recording).get(record["id"], record["id"])
            if name == SUPERVISIONS_JSONL:
                record["recording_id"] = of_recording.get(record["recording_id"], record["recording_id"])
        manifests[name] = {record["id"]: record for record in sorted(found, key=lambda record: record["id"])}
    return DataSet(tables, manifests)
