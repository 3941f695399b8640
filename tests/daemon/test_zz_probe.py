from tests.daemon.test_devices import *
import logging

async def loaded_by_others(ollama, name):
    async with a_client(ollama.url) as c:
        r = await c.post("/api/generate", json={"model": name, "keep_alive": -1, "stream": False, "options": {"num_ctx": 8192}})
        assert r.status_code == 200, r.text

def far(ollama, exporter, tmp_path, **more):
    return running(
        backend=[{"name": "far", "kind": "ollama", "url": ollama.url, "node": "desk"}],
        node=[{"name": "desk", "metrics_url": exporter.url}],
        vram={**looking(tmp_path), **more},
    )

async def test_adopt_at_start(tmp_path):
    total = 24 * GIB
    async with Ollama(of_size("a", 8 * GIB), of_size("b", 18*GIB), vram_total=total) as ollama, an_exporter(ollama, total) as exporter:
        await loaded_by_others(ollama, "a")
        async with far(ollama, exporter, tmp_path, monitor_interval=30) as daemon, daemon.client() as client:
            t = await report(client); print(device(t, "desk/nvidia0"), model(t, "a"))
            assert lies(t, "a") == {"desk/nvidia0": 8*GIB}
            await answered(client, "b")

async def test_adopt_later(tmp_path):
    total = 24 * GIB
    async with Ollama(of_size("a", 8 * GIB), of_size("b", 18*GIB), vram_total=total) as ollama, an_exporter(ollama, total) as exporter:
        async with far(ollama, exporter, tmp_path, monitor_interval=30) as daemon, daemon.client() as client:
            await loaded_by_others(ollama, "a")
            await daemon.engine.machines.sample()
            await asyncio.sleep(.1)
            await daemon.engine.catalogue.refresh()
            t = await report(client); print(device(t, "desk/nvidia0"), model(t, "a"))
            await answered(client, "b")

async def test_adopt_at_start_ram(tmp_path):
    total = 24 * GIB
    async with Ollama(of_size("a", 8 * GIB), vram_total=()) as ollama, an_exporter(ollama, total) as exporter:
        await loaded_by_others(ollama, "a")
        async with far(ollama, exporter, tmp_path) as daemon, daemon.client() as client:
            t = await report(client); print(device(t, "desk/nvidia0"), model(t, "a"))
            assert sum(lies(t, "a").values()) == 0

async def test_exporter_later(tmp_path):
    total = 24 * GIB
    async with Ollama(of_size("a", 8 * GIB), of_size("b", 18*GIB), vram_total=total) as ollama, an_exporter(ollama, total) as exporter:
        await exporter.stop()
        async with far(ollama, exporter, tmp_path) as daemon, daemon.client() as client:
            await answered(client, "a")
            t = await report(client); print(model(t, "a"))
            await exporter.start()
            t = await once(client, lambda t: any(d["id"] == "desk/nvidia0" for d in t["devices"]))
            await daemon.engine.catalogue.refresh()
            await asyncio.sleep(.5)
            t = await report(client); print(device(t, "desk/nvidia0"), model(t, "a"))
            await answered(client, "b")
