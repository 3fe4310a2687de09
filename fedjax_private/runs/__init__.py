"""A run as a value: asked for, checked and priced, trained, recorded, loaded.

    result = runs.train(runs.Spec(arm="private_ai", clients=8), out="runs/mine")
    result.params, result.epsilon, result.rows

Files, each importing only those before it: `environment` (sets up the process and says
what it runs on); `arms`, `tuned`, `settings_files`, `settled`, `unused`, `spec`,
`preparation`, `building`; `directory`, `checkpoints`, `columns`, `clients`, `warnings`,
`rows`, `ledgers`; `training`, `batches`, `loading`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
