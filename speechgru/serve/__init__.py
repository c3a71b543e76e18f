"""A server of recognizers: Wyoming, WebSocket and a web page in front of one engine. No torch."""
