"""What a run was, for somebody who was not there: Markdown, and one page of HTML with its pictures."""
