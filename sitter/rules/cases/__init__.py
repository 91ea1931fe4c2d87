"""Stories that rules are told, where they are too long to stand in the rule's own file: in which it speaks, and in which it does not."""
