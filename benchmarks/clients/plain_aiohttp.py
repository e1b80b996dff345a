"""aiohttp and aiofiles as most would write it: poll each prediction, 64 KiB at a time to disk."""

from __future__ import annotations

import asyncio
from typing import Any

import aiofiles
import aiohttp

from benchmarks.clients.work import MODEL, POLL_INTERVAL, Work

_CHUNK = 1 << 16


async def main(work: Work) -> None:
    """Run all prompts."""
    headers = {"Authorization": "Bearer bench"}
    async with (
        aiohttp.ClientSession(work.api, headers=headers, raise_for_status=True) as api,
        aiohttp.ClientSession(raise_for_status=True) as files,
    ):

        async def one(number: int, prompt_input: dict[str, Any]) -> None:
            async with api.post("/v1/predictions", json={"version": MODEL, "input": prompt_input}) as answer:
                prediction = await answer.json()
            while prediction["status"] in ("starting", "processing"):
                await asyncio.sleep(POLL_INTERVAL)
                async with api.get(f"/v1/predictions/{prediction['id']}") as answer:
                    prediction = await answer.json()
            for place, url in enumerate(prediction["output"]):
                async with files.get(url) as file, aiofiles.open(work.file(number, place), "wb") as target:
                    async for chunk in file.content.iter_chunked(_CHUNK):
                        await target.write(chunk)

        await work.each(one)


if __name__ == "__main__":
    asyncio.run(main(Work.from_flags()))
