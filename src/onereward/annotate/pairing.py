"""A shard of triplets beside its shard of candidates."""

from itertools import groupby

from onereward.store.shards import Folder, fingerprint, read_manifest, read_shard
from onereward.terms import Candidate, Triplet


class Pairing:
    """Triplets with their candidates, shard by shard, with the fingerprints of both folders.

    Raises ValueError if a folder is missing or unfinished, or if the candidates were made from other triplets.
    """

    def __init__(self, triplets: Folder, candidates: Folder) -> None:
        self._folders = triplets, candidates
        self._manifests = read_manifest(triplets), read_manifest(candidates)
        self.fingerprints = {"triplets": fingerprint(triplets), "candidates": fingerprint(candidates)}
        if self._manifests[1].plan.inputs.get("triplets") != self.fingerprints["triplets"]:
            raise ValueError(
                f"the candidates in {candidates} were not made from {triplets}: pass the triplets that "
                "`onereward generate` was given"
            )

    def __len__(self) -> int:
        return len(self._manifests[0].shards)

    def shard(self, index: int) -> list[tuple[Triplet, list[Candidate]]]:
        """Each triplet of shard `index` with its candidates; ValueError for one candidate alone."""
        triplets = read_shard(self._folders[0], Triplet, self._manifests[0], index)
        candidates = read_shard(self._folders[1], Candidate, self._manifests[1], index)
        of_triplet = {key: list(group) for key, group in groupby(candidates, lambda candidate: candidate.triplet_id)}
        alone = [triplet.id for triplet in triplets if len(of_triplet[triplet.id]) < 2]
        if alone:
            raise ValueError(
                f"{alone[0]} has one candidate, but a vote is for a best and a worst: generate 2 or more of each"
            )
        return [(triplet, of_triplet[triplet.id]) for triplet in triplets]
