"""What people do from the dashboard: a question that says what an action touches, then the action, then its log."""
