"""The official client in polling mode, outputs as its FileOutput streams them."""

from __future__ import annotations

import asyncio
from typing import Any

import aiofiles
from replicate.client import Client
from replicate.helpers import FileOutput

from benchmarks.clients.work import MODEL, Work


async def main(work: Work) -> None:
    """Run all prompts."""
    client = Client(api_token="bench", base_url=work.api)  # noqa: S106 - no secret

    async def one(number: int, prompt_input: dict[str, Any]) -> None:
        output: Any = await client.async_run(MODEL, input=prompt_input, wait=False)
        for place, file in enumerate(output):
            async with aiofiles.open(work.file(number, place), "wb") as target:
                async for chunk in FileOutput(file, client):  # it makes them itself of https URLs only
                    await target.write(chunk)

    await work.each(one)


if __name__ == "__main__":
    asyncio.run(main(Work.from_flags()))
