"""Peak memory of ITPO on one base with adapters against plain RLOO with LoRA.

    OMP_NUM_THREADS=2 python benchmarks/memory.py [--rows 8] [--tokens 256]

A random Qwen3-shaped model of about 100 M parameters in float32. RLOO: the policy's adapter and the
reference. ITPO: the same and the reward model's adapter, which is trained and scored; each step
scores the reference once, trains and scores the reward model once, and trains the policy once. Each
side runs two steps in a process of its own with the same malloc settings, and the peak resident
memory of the process is compared. The aim is a ratio of at most 1.3. Rollouts are left out: both
sides share the sampler.
"""

import argparse
import json
import os
import resource
import subprocess
import sys

# Freed blocks go back at once, so that the peak is what was needed and not what was kept.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_ARENA_MAX": "1"}
SETTINGS = {
    "vocab_size": 32000,
    "hidden_size": 640,
    "intermediate_size": 1920,
    "num_hidden_layers": 16,
    "num_attention_heads": 10,
    "num_key_value_heads": 5,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 4,
    "pad_token_id": 5,
}


def peak_of(method: str, rows: int, tokens: int) -> dict[str, float]:
    """Two steps of a method in this process. Returns parameters and peak MB."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from turnwise.backends.local import LocalBackend
    from turnwise.backends.protocol import AdapterSpec
    from turnwise.backends.tiny import tiny_tokenizer
    from turnwise.tokens import TurnBatch

    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SETTINGS))
    parameters = model.num_parameters()
    backend = LocalBackend(model, tiny_tokenizer(["a b"], 300), max_rows=rows)
    policy = backend.create("policy", AdapterSpec(rank=16))
    prm = backend.create("prm", AdapterSpec(rank=16)) if method == "itpo" else None
    token_BT = torch.randint(6, SETTINGS["vocab_size"], (rows, tokens))
    turn_of_token_BT = torch.full_like(token_BT, -1)
    turn_of_token_BT[:, tokens // 4 : tokens // 2] = 0
    turn_of_token_BT[:, tokens * 3 // 4 :] = 1
    batch = TurnBatch(
        token_BT, turn_of_token_BT, torch.zeros(rows, tokens), torch.full((rows,), tokens)
    )
    advantage_BT = torch.randn(rows, 1)
    outcome_B = torch.arange(rows).remainder(2).float()
    for _ in range(2):
        reference_BT = backend.reference().logp(batch)
        if prm is not None:
            prm.forward_backward(
                batch,
                lambda logp_BT, reference_BT=reference_BT: (
                    torch.nn.functional.binary_cross_entropy_with_logits(
                        0.05 * (logp_BT - reference_BT).sum(dim=1), outcome_B
                    )
                ),
            )
            prm.optim_step(1e-4)
            prm.logp(batch)
        policy.forward_backward(
            batch,
            lambda logp_BT, reference_BT=reference_BT: (
                (0.001 * (logp_BT - reference_BT).square() - advantage_BT * logp_BT).sum()
                / batch.num_written
            ),
        )
        policy.optim_step(1e-4)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    return {"parameters": parameters, "peak_mb": peak_mb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--method", choices=["rloo", "itpo"])
    arguments = parser.parse_args()
    if arguments.method:
        print(json.dumps(peak_of(arguments.method, arguments.rows, arguments.tokens)))
        return
    peaks = {}
    for method in ("rloo", "itpo"):
        command = [sys.executable, __file__, "--method", method]
        command += ["--rows", str(arguments.rows), "--tokens", str(arguments.tokens)]
        done = subprocess.run(
            command, env={**os.environ, **MALLOC}, check=True, stdout=subprocess.PIPE
        )
        peaks[method] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{peaks['rloo']['parameters']:,} parameters, {arguments.rows} x {arguments.tokens} tokens"
    )
    print(f"RLOO with LoRA         {peaks['rloo']['peak_mb']:>8,.0f} MB peak")
    print(f"ITPO, one base         {peaks['itpo']['peak_mb']:>8,.0f} MB peak")
    print(f"ratio                  {peaks['itpo']['peak_mb'] / peaks['rloo']['peak_mb']:>8.2f}")


if __name__ == "__main__":
    main()
