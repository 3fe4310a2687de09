"""A run as it is asked for: arm, clients, partition, seed and settings."""

import dataclasses

from experiments.arms import ARMS
from experiments.config import Settings
from experiments.tuned import Hyperparameters, hyperparameters
from fedjax_private import aggregation
from fedjax_private.trust import Decryptor, Trust


@dataclasses.dataclass(frozen=True)
class Spec:
    """Everything that fixes one run.

    Attributes:
        label: tells runs apart that differ in their settings.
    """

    arm: str
    clients: int
    partition: str
    seed: int
    settings: Settings
    label: str = ""

    @property
    def name(self) -> str:
        """A name for files and lines: arm-clients-partition-seed, or label-arm-..."""
        start = f"{self.label}-" if self.label else ""
        return f"{start}{self.arm}-{self.clients}-{self.partition}-{self.seed}"

    @property
    def place(self) -> str:
        """Where the run stands, whatever its arm and seed: label and clients."""
        start = f"{self.label}, " if self.label else ""
        return f"{start}{self.clients} client" + ("s" if self.clients > 1 else "")

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Tuned values and flags together."""
        return hyperparameters(self.arm, self.clients, self.settings)

    @property
    def shares_noise(self) -> bool:
        """Whether clients share the noise of each sum."""
        return self.settings.shares_noise(self.arm)

    @property
    def encrypts(self) -> bool:
        """Whether sums are encrypted."""
        return self.settings.encrypts(self.arm)

    @property
    def algorithm(self) -> str:
        """Of federated training; raises ValueError where the arm takes no other."""
        arm, name = ARMS[self.arm], self.settings.training.algorithm
        if name != "fedavg" and (arm.private or not arm.federated):
            raise ValueError(
                f"--algorithm={name} is for arms fl and fl_he, got {self.arm}."
            )
        return name

    @property
    def cohort(self) -> int:
        """Clients of a round."""
        return self.settings.training.cohort or self.clients

    @property
    def trust(self) -> Trust:
        """Who is trusted with what; raises ValueError where that cannot be."""
        privacy, config = self.settings.privacy, self.settings.encryption
        uploads = config.min_uploads or self.cohort
        if uploads > self.cohort:
            raise ValueError(
                f"--min_uploads must lie between 1 and the {self.cohort} clients of a "
                f"round, got {uploads}."
            )
        if not self.encrypts:
            return Trust(uploads, Decryptor.NOBODY_NEEDED, privacy.honest_clients)
        decryptor = aggregation.SCHEMES[config.encryption]
        if config.key_holder == "clients":
            decryptor = Decryptor.EVERY_CLIENT
        held = decryptor is Decryptor.HOLDERS
        return Trust(
            uploads,
            decryptor,
            privacy.honest_clients,
            config.options.quorum(uploads) if held else None,
        )
