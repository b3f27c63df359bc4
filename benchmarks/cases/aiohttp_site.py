"""What all contenders with aiohttp's server have in common."""

from aiohttp import web


async def serve(host: str, *routes: web.RouteDef) -> int:
    """Serve these routes until the process ends, and return on which port."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, 0, backlog=4096).start()
    port: int = runner.addresses[0][1]
    return port
