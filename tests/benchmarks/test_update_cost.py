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


def test_muon_is_left_out_where_it_would_take_minutes(monkeypatch):
    monkeypatch.setattr(update_cost, "rows", lambda exponent, some: list(some))
    assert "muon" in update_cost.measured(7)
    assert update_cost.measured(8) == ["adamw", "demo", "mu_mlp", "mu_norm"]


def test_on_gpus_rules_are_measured_without_kernels_too(monkeypatch):
    def rows(exponent, some):
        return [{"optimizer": name, "parameters": exponent} for name in some]

    monkeypatch.setattr(update_cost, "rows", rows)
    monkeypatch.setattr(update_cost.jax, "default_backend", lambda: "gpu")
    names = [row["optimizer"] for row in update_cost.measured(3)]
    assert names[:5] == ["adamw", "muon", "demo", "mu_mlp", "mu_norm"]
    assert names[5:] == [name + " without kernels" for name in names[2:5]]
