"""What an update costs is measured beside AdamW."""

from benchmarks import update_cost


def test_rows_have_times_over_adamw_and_temporaries(monkeypatch):
    monkeypatch.setattr(update_cost, "SECONDS", 0.0)
    rows = {row["optimizer"]: row for row in update_cost.measured(3)}
    assert list(rows) == ["adamw", "muon", "demo", "mu_mlp", "mu_norm"]
    assert rows["adamw"]["ratio"] == 1
    for name, row in rows.items():
        assert abs(row["parameters"] - 1000) < 50
        assert row["ratio"] == row["seconds"] / rows["adamw"]["seconds"]
        assert 0 <= row["temporaries"] < 2**24, name
        assert row["state"] >= 8 * row["parameters"], name
