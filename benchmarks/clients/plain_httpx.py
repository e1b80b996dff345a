"""httpx and aiofiles as most would write it: poll each prediction, 64 KiB at a time to disk."""

from __future__ import annotations

import asyncio
from typing import Any

import aiofiles
import httpx

from benchmarks.clients.work import MODEL, POLL_INTERVAL, Work

_CHUNK = 1 << 16


async def main(work: Work) -> None:
    """Run all prompts."""
    headers = {"Authorization": "Bearer bench"}
    async with (
        httpx.AsyncClient(base_url=work.api, headers=headers, timeout=60) as api,
        httpx.AsyncClient(timeout=60) as files,
    ):

        async def one(number: int, prompt_input: dict[str, Any]) -> None:
            answer = await api.post("/v1/predictions", json={"version": MODEL, "input": prompt_input})
            prediction = answer.raise_for_status().json()
            while prediction["status"] in ("starting", "processing"):
                await asyncio.sleep(POLL_INTERVAL)
                prediction = (await api.get(f"/v1/predictions/{prediction['id']}")).raise_for_status().json()
            for place, url in enumerate(prediction["output"]):
                async with (
                    files.stream("GET", url) as file,
                    aiofiles.open(work.file(number, place), "wb") as target,
                ):
                    file.raise_for_status()
                    async for chunk in file.aiter_bytes(_CHUNK):
                        await target.write(chunk)

        await work.each(one)


if __name__ == "__main__":
    asyncio.run(main(Work.from_flags()))
