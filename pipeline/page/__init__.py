"""What a folder of artifacts holds, for people: report.html, which needs nothing beside it, and README.md."""
